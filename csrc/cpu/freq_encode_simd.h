// Sines and cosines of octaves in vectors of 8 doubles or floats; compiled once per instruction set, hence
// the anonymous namespace.
#pragma once
#include <immintrin.h>

#include "nerfad/freq_encode.h"

namespace nerfad {
namespace {

constexpr int kOctaveLanes = 8;
typedef double Double8 __attribute__((vector_size(64), aligned(8)));
typedef int64_t Long8 __attribute__((vector_size(64), aligned(8)));
typedef float Float8 __attribute__((vector_size(32), aligned(4)));
typedef int32_t Int8 __attribute__((vector_size(32), aligned(4)));

// sin and cos of (pi/2) * turns. Quarter turns are split off in double precision, where they are exact; the
// rest, in [-0.5, 0.5] quarter turns, needs only float32 polynomials (Chebyshev-fitted, below one ulp).
inline __attribute__((always_inline)) void sincos_quarter_turns(const Double8& turns, Float8& sine,
                                                                Float8& cosine) {
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer in the low bits
  const Double8 shifted = turns + kRound;
  const Float8 r = __builtin_convertvector(turns - (shifted - kRound), Float8) * 1.57079632679489662f;
  const Int8 quadrant = __builtin_convertvector(reinterpret_cast<Long8>(shifted) & 3, Int8);
  const Float8 rr = r * r;
  const Float8 s = r + r * rr * (-1.6666654611e-1f + rr * (8.3321608736e-3f + rr * -1.9515295891e-4f));
  const Float8 c =
      1.0f - 0.5f * rr +
      rr * rr * (4.166664568298827e-2f + rr * (-1.388731625493765e-3f + rr * 2.443315711809948e-5f));
  const Int8 swapped = (quadrant & 1) != 0;
  const Float8 zero = {};
  const Float8 sine_part = swapped ? c : s, cosine_part = swapped ? s : c;
  sine = (quadrant & 2) != 0 ? zero - sine_part : sine_part;
  cosine = ((quadrant + 1) & 2) != 0 ? zero - cosine_part : cosine_part;
}

// Rows [begin, end).
void freq_encode_rows(const FreqEncodeFwd<float>& p, int64_t begin, int64_t end) {
  const int64_t n_dims = p.n_dims, n_outputs = p.n_outputs();
  // Beyond 2^27 even double precision leaves too few bits behind the point.
  const float limit = static_cast<float>(1 << 27) / static_cast<float>(1 << p.n_octaves);
  for (int64_t first = begin * n_dims; first < end * n_dims; first += kOctaveLanes) {
    const int lanes =
        end * n_dims - first < kOctaveLanes ? static_cast<int>(end * n_dims - first) : kOctaveLanes;
    Double8 turns = {};
    float* out[kOctaveLanes];
    bool too_large = false;
    for (int lane = 0; lane < lanes; ++lane) {
      const float x = p.x[first + lane];
      too_large |= !(x < limit && x > -limit);
      turns[lane] = static_cast<double>(x) * 0.63661977236758134308;
      out[lane] = p.values + (first + lane) / n_dims * n_outputs + (first + lane) % n_dims;
    }
    if (too_large) {  // also infinities and NaN
      for (int lane = 0; lane < lanes; ++lane) {
        freq_encode_fwd_element(p, (first + lane) / n_dims, static_cast<int>((first + lane) % n_dims));
      }
      continue;
    }
    if (p.include_input) {
      for (int lane = 0; lane < lanes; ++lane) *out[lane] = p.x[first + lane], out[lane] += n_dims;
    }
    for (int k = 0; k < p.n_octaves; ++k) {
      Float8 sine, cosine;
      sincos_quarter_turns(turns, sine, cosine);
      for (int lane = 0; lane < lanes; ++lane) {
        out[lane][0] = sine[lane];
        out[lane][n_dims] = cosine[lane];
        out[lane] += 2 * n_dims;
      }
      turns += turns;
    }
  }
}

}  // namespace
}  // namespace nerfad
