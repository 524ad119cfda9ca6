// Frequency encoding: [x,] sin(2^0 x), cos(2^0 x), ..., sin(2^(k-1) x), cos(2^(k-1) x), each block of all
// dimensions.
#pragma once
#include <cmath>

#include "nerfad/hd.h"
#include "nerfad/parallel.h"

namespace nerfad {

template <class T>
struct FreqEncodeFwd {
  const T* x;  // [n, n_dims]
  T* values;   // out [n, n_dims * (2 * n_octaves + include_input)]
  int64_t n;
  int32_t n_dims;
  int32_t n_octaves;
  bool include_input;

  NERFAD_HD int64_t n_outputs() const { return int64_t(n_dims) * (2 * n_octaves + include_input); }
};

template <class T>
struct FreqEncodeBwd {
  FreqEncodeFwd<T> fwd;  // inputs of the forward pass, and its values
  const T* grad_values;  // [n, n_outputs]
  T* grad_x;             // out [n, n_dims]
};

// One element of x: row i, column d.
template <class T>
NERFAD_HD void freq_encode_fwd_element(const FreqEncodeFwd<T>& p, int64_t i, int d) {
  const T x = p.x[i * p.n_dims + d];
  T* out = p.values + i * p.n_outputs() + d;
  if (p.include_input) {
    *out = x;
    out += p.n_dims;
  }
  T factor = 1;
  for (int k = 0; k < p.n_octaves; ++k, factor *= T(2), out += 2 * p.n_dims) {
    out[0] = std::sin(x * factor);
    out[p.n_dims] = std::cos(x * factor);
  }
}

// d sin(f x) = f cos(f x), d cos(f x) = -f sin(f x): both are among the forward pass' values.
template <class T>
NERFAD_HD void freq_encode_bwd_element(const FreqEncodeBwd<T>& p, int64_t i, int d) {
  const FreqEncodeFwd<T>& f = p.fwd;
  const T* value = f.values + i * f.n_outputs() + d;
  const T* grad = p.grad_values + i * f.n_outputs() + d;
  T sum = 0;
  if (f.include_input) {
    sum = *grad;
    value += f.n_dims;
    grad += f.n_dims;
  }
  T factor = 1;
  for (int k = 0; k < f.n_octaves; ++k, factor *= T(2), value += 2 * f.n_dims, grad += 2 * f.n_dims) {
    sum += factor * (grad[0] * value[f.n_dims] - grad[f.n_dims] * value[0]);
  }
  p.grad_x[i * f.n_dims + d] = sum;
}

template <class T>
void freq_encode_fwd_cpu(const FreqEncodeFwd<T>& p, const ParallelFor& parallel_for);
template <class T>
void freq_encode_bwd_cpu(const FreqEncodeBwd<T>& p, const ParallelFor& parallel_for);

}  // namespace nerfad
