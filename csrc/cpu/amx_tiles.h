// The processor's AMX tile registers as mlp_matrix_tile.h wants them. Inline assembly: compilers' intrinsics
// are macros that take register numbers as text, not as template arguments.
#pragma once
#include "mlp_matrix_grad.h"

namespace nerfad {
namespace {

struct AmxTiles {
  // Gives the registers their shapes on this thread; the process has asked for them (isa.cpp).
  class Scope {
   public:
    Scope() {
      struct alignas(64) {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
      } config{};
      static_assert(sizeof(config) == 64);
      config.palette = 1;
      for (int i = 0; i < kTileRegisters; ++i) {
        config.row_bytes[i] = kTileRowBytes;
        config.rows[i] = kTileRows;
      }
      __asm__ volatile("ldtilecfg %0" : : "m"(config));
    }
    ~Scope() { __asm__ volatile("tilerelease"); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
  };

  template <int kTo>
  static void zero() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(kTo));
  }
  template <int kTo>
  static void load(const void* from, int64_t stride_bytes) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride_bytes), "i"(kTo) : "memory");
  }
  template <int kFrom>
  static void store(void* to, int64_t stride_bytes) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride_bytes), "i"(kFrom) : "memory");
  }
  template <int kSum, int kA, int kB>
  static void multiply_add() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
  }
};

using AmxBf16 = MatrixTiles<Avx512Bf16, AmxTiles>;

}  // namespace
}  // namespace nerfad
