#include "nerfad/grid_encode.h"

#include <algorithm>

#include "grid_encode_scratch.h"
#include "nerfad/isa.h"

namespace nerfad {

#if defined(__x86_64__)
void grid_encode_fwd_avx2(const GridEncodeFwd<float>&, const ParallelFor&);
void grid_encode_fwd_avx512(const GridEncodeFwd<float>&, const ParallelFor&);
void grid_encode_bwd_avx2(const GridEncodeBwd<float>&, const ParallelFor&);
void grid_encode_bwd_avx512(const GridEncodeBwd<float>&, const ParallelFor&);
#endif

namespace {

constexpr int64_t kPointsPerTask = 512;

template <class T, class Fn>
void by_table_type(const GridEncodeFwd<T>& p, const Fn& fn) {
  if constexpr (sizeof(T) == sizeof(double)) {
    grid_dispatch_shape<double>(p.shape, fn);
  } else {
    grid_dispatch_float32(p.table_type, p.shape, fn);
  }
}

template <class T>
void fwd_portable(const GridEncodeFwd<T>& p, const ParallelFor& parallel_for) {
  by_table_type(p, [&](auto s, auto d, auto f) {
    parallel_for(p.n, kPointsPerTask, [&](int64_t begin, int64_t end) {
      for (int l = 0; l < p.shape.n_levels; ++l) {
        for (int64_t i = begin; i < end; ++i) {
          grid_encode_fwd_point<T, decltype(s), decltype(d)::value, decltype(f)::value>(p, i, l);
        }
      }
    });
  });
}

template <class T>
void bwd_portable(const GridEncodeBwd<T>& p, const ParallelFor& parallel_for) {
  by_table_type(p.fwd, [&](auto s, auto d, auto f) {
    using S = decltype(s);
    constexpr int D = decltype(d)::value, F = decltype(f)::value;
    if (p.grad_positions) {
      parallel_for(p.fwd.n, kPointsPerTask, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) grid_encode_bwd_position_point<T, S, D, F>(p, i);
      });
    }
    if (!p.grad_table) return;
    parallel_for(p.fwd.shape.n_levels, 1, [&](int64_t begin, int64_t end) {
      for (int l = static_cast<int>(begin); l < end; ++l) {
        const GridLevel& level = p.fwd.shape.levels[l];
        if (p.fresh_table)
          std::fill_n(p.grad_table + int64_t(level.offset) * F, int64_t(level.size) * F, T(0));
        for (int64_t i = 0; i < p.fwd.n; ++i) {
          grid_encode_bwd_table_point<T, D, F>(p, i, l, [&](uint32_t entry, const T(&values)[F]) {
            for (int k = 0; k < F; ++k) p.grad_table[int64_t(entry) * F + k] += values[k];
          });
        }
      }
    });
  });
}

}  // namespace

int64_t grid_encode_fwd_scratch(const GridShape& shape, int64_t n) { return grid_scratch(shape, n).fwd_size; }

int64_t grid_encode_bwd_scratch(const GridShape& shape, int64_t n) { return grid_scratch(shape, n).bwd_size; }

template <>
void grid_encode_fwd_cpu(const GridEncodeFwd<double>& p, const ParallelFor& parallel_for) {
  fwd_portable(p, parallel_for);
}

template <>
void grid_encode_bwd_cpu(const GridEncodeBwd<double>& p, const ParallelFor& parallel_for) {
  bwd_portable(p, parallel_for);
}

template <>
void grid_encode_fwd_cpu(const GridEncodeFwd<float>& p, const ParallelFor& parallel_for) {
#if defined(__x86_64__)
  if (current_isa() >= Isa::kAvx512) return grid_encode_fwd_avx512(p, parallel_for);
  if (current_isa() >= Isa::kAvx2) return grid_encode_fwd_avx2(p, parallel_for);
#endif
  fwd_portable(p, parallel_for);
}

template <>
void grid_encode_bwd_cpu(const GridEncodeBwd<float>& p, const ParallelFor& parallel_for) {
#if defined(__x86_64__)
  if (current_isa() >= Isa::kAvx512) return grid_encode_bwd_avx512(p, parallel_for);
  if (current_isa() >= Isa::kAvx2) return grid_encode_bwd_avx2(p, parallel_for);
#endif
  bwd_portable(p, parallel_for);
}

}  // namespace nerfad
