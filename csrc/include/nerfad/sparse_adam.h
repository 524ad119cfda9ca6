// One Adam step, in place, on the elements with a non-zero gradient (decoupled weight decay, as in AdamW).
#pragma once
#include <cmath>

#include "nerfad/hd.h"
#include "nerfad/parallel.h"

namespace nerfad {

template <class T>
struct SparseAdam {
  T* params;  // [n] in and out
  T* grads;   // [n] in; out zero if zero_grad
  T* m;       // [n] in and out, first moment
  T* v;       // [n] in and out, second moment
  int64_t n;
  T step_size;     // lr / (1 - beta1^step)
  T keep;          // 1 - lr * weight_decay
  T beta1, beta2;  // decay of the moments
  T v_scale;       // 1 / sqrt(1 - beta2^step)
  T eps;
  bool zero_grad;
};

template <class T>
NERFAD_HD void sparse_adam_element(const SparseAdam<T>& p, int64_t i) {
  const T g = p.grads[i];
  if (g == T(0)) return;
  const T m = p.beta1 * p.m[i] + (T(1) - p.beta1) * g;
  const T v = p.beta2 * p.v[i] + (T(1) - p.beta2) * g * g;
  p.m[i] = m;
  p.v[i] = v;
  p.params[i] = p.keep * p.params[i] - p.step_size * m / (std::sqrt(v) * p.v_scale + p.eps);
  if (p.zero_grad) p.grads[i] = 0;
}

template <class T>
void sparse_adam_cpu(const SparseAdam<T>& p, const ParallelFor& parallel_for);

}  // namespace nerfad
