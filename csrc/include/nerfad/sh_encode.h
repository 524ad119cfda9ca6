// Real spherical harmonics of directions up to degree 4 (16 values), as polynomials in x, y, z, in
// instant-ngp's order and signs.
#pragma once
#include "nerfad/hd.h"
#include "nerfad/parallel.h"

namespace nerfad {

template <class T>
struct ShEncodeFwd {
  const T* dirs;  // [n, 3] unit vectors
  T* values;      // out [n, degree^2]
  int64_t n;
  int32_t degree;  // 1..4
};

template <class T>
struct ShEncodeBwd {
  ShEncodeFwd<T> fwd;    // inputs of the forward pass; its outputs are not read
  const T* grad_values;  // [n, degree^2]
  T* grad_dirs;          // out [n, 3]
};

template <class T, int Degree>
NERFAD_HD void sh_encode_fwd_point(const ShEncodeFwd<T>& p, int64_t i) {
  const T x = p.dirs[3 * i], y = p.dirs[3 * i + 1], z = p.dirs[3 * i + 2];
  T* out = p.values + i * (Degree * Degree);
  out[0] = T(0.28209479177387814);
  if constexpr (Degree > 1) {
    out[1] = T(-0.48860251190291987) * y;
    out[2] = T(0.48860251190291987) * z;
    out[3] = T(-0.48860251190291987) * x;
  }
  const T xx = x * x, yy = y * y, zz = z * z;
  if constexpr (Degree > 2) {
    out[4] = T(1.0925484305920792) * x * y;
    out[5] = T(-1.0925484305920792) * y * z;
    out[6] = T(0.94617469575755997) * zz - T(0.31539156525251999);
    out[7] = T(-1.0925484305920792) * x * z;
    out[8] = T(0.54627421529603959) * (xx - yy);
  }
  if constexpr (Degree > 3) {
    out[9] = T(0.59004358992664352) * y * (yy - T(3) * xx);
    out[10] = T(2.8906114426405538) * x * y * z;
    out[11] = T(0.45704579946446572) * y * (T(1) - T(5) * zz);
    out[12] = T(0.3731763325901154) * z * (T(5) * zz - T(3));
    out[13] = T(0.45704579946446572) * x * (T(1) - T(5) * zz);
    out[14] = T(1.4453057213202769) * z * (xx - yy);
    out[15] = T(0.59004358992664352) * x * (T(3) * yy - xx);
  }
}

template <class T, int Degree>
NERFAD_HD void sh_encode_bwd_point(const ShEncodeBwd<T>& p, int64_t i) {
  const T x = p.fwd.dirs[3 * i], y = p.fwd.dirs[3 * i + 1], z = p.fwd.dirs[3 * i + 2];
  const T* g = p.grad_values + i * (Degree * Degree);
  T gx = 0, gy = 0, gz = 0;
  if constexpr (Degree > 1) {
    gx = T(-0.48860251190291987) * g[3];
    gy = T(-0.48860251190291987) * g[1];
    gz = T(0.48860251190291987) * g[2];
  }
  if constexpr (Degree > 2) {
    gx += T(1.0925484305920792) * (y * g[4] - z * g[7] + x * g[8]);
    gy += T(1.0925484305920792) * (x * g[4] - z * g[5] - y * g[8]);
    gz += T(1.8923493915151199) * z * g[6] - T(1.0925484305920792) * (y * g[5] + x * g[7]);
  }
  if constexpr (Degree > 3) {
    const T xx = x * x, yy = y * y, zz = z * z;
    const T ninth = T(1.7701307697799307), eleventh = T(0.45704579946446572);
    gx += ninth * (T(-2) * x * y * g[9] + (yy - xx) * g[15]);
    gx += T(2.8906114426405538) * z * (y * g[10] + x * g[14]) + eleventh * (T(1) - T(5) * zz) * g[13];
    gy += ninth * ((yy - xx) * g[9] + T(2) * x * y * g[15]);
    gy += T(2.8906114426405538) * z * (x * g[10] - y * g[14]) + eleventh * (T(1) - T(5) * zz) * g[11];
    gz += T(2.8906114426405538) * x * y * g[10] + T(1.4453057213202769) * (xx - yy) * g[14];
    gz += T(0.3731763325901154) * (T(15) * zz - T(3)) * g[12];
    gz -= T(10) * eleventh * z * (y * g[11] + x * g[13]);
  }
  p.grad_dirs[3 * i] = gx;
  p.grad_dirs[3 * i + 1] = gy;
  p.grad_dirs[3 * i + 2] = gz;
}

template <int N>
struct ShDegree {
  static constexpr int value = N;
};

// Calls fn(ShDegree<degree>{}).
template <class Fn>
void sh_dispatch(int degree, const Fn& fn) {
  if (degree == 1) fn(ShDegree<1>{});
  if (degree == 2) fn(ShDegree<2>{});
  if (degree == 3) fn(ShDegree<3>{});
  if (degree == 4) fn(ShDegree<4>{});
}

template <class T>
void sh_encode_fwd_cpu(const ShEncodeFwd<T>& p, const ParallelFor& parallel_for);
template <class T>
void sh_encode_bwd_cpu(const ShEncodeBwd<T>& p, const ParallelFor& parallel_for);

}  // namespace nerfad
