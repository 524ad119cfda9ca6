#include "nerfad/ceilings.h"

#include <cstring>

#include "ceilings_simd.h"
#include "nerfad/isa.h"

namespace nerfad {

#if defined(__x86_64__)
double ceiling_fma_avx2(const CeilingBuffer&, int64_t);
double ceiling_read_avx2(const CeilingBuffer&, int64_t);
double ceiling_gather_avx2(const CeilingBuffer&, int64_t);
double ceiling_fma_avx512(const CeilingBuffer&, int64_t);
double ceiling_read_avx512(const CeilingBuffer&, int64_t);
double ceiling_gather_avx512(const CeilingBuffer&, int64_t);
double ceiling_dot_avx512bf16(const CeilingBuffer&, int64_t);
double ceiling_dot_amx(const CeilingBuffer&, int64_t);
#endif

namespace {

// 8-byte loads one by one, eight independent sequences.
double gather_loads(const CeilingBuffer& buffer, int64_t iterations) {
  constexpr int kChains = 8;
  const auto* entries = reinterpret_cast<const uint64_t*>(buffer.data);
  const auto mask = static_cast<uint32_t>(buffer.n / 2 - 1);
  uint32_t state[kChains];
  uint64_t sums[kChains] = {};
  for (int c = 0; c < kChains; ++c) state[c] = 0x9e3779b9u * static_cast<uint32_t>(c * c + 1);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 8
    for (int c = 0; c < kChains; ++c) {
      state[c] += kWeyl;
      sums[c] += entries[(state[c] ^ state[c] >> 15) & mask];
    }
  }
  uint64_t total = 0;
  for (uint64_t sum : sums) total += sum;
  buffer.data[0] = static_cast<float>(total);
  return static_cast<double>(kChains) * static_cast<double>(iterations);
}

}  // namespace

Ceiling ceiling(int n) {
  Ceiling found[16] = {};
  int count = 0;
  const auto add = [&](const char* name, CeilingLoop loop) { found[count++] = {name, loop}; };
  add("fma portable", &fma_loop<PortableSimd<float>, 12>);
  add("read portable", &read_loop<PortableSimd<float>>);
  add("gather portable", &gather_loads);
#if defined(__x86_64__)
  if (detected_isa() >= Isa::kAvx2) {
    add("fma avx2", &ceiling_fma_avx2);
    add("read avx2", &ceiling_read_avx2);
    add("gather avx2", &ceiling_gather_avx2);
  }
  if (detected_isa() >= Isa::kAvx512) {
    add("fma avx512", &ceiling_fma_avx512);
    add("read avx512", &ceiling_read_avx512);
    add("gather avx512", &ceiling_gather_avx512);
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bf16")) add("dot avx512bf16", &ceiling_dot_avx512bf16);
  }
  if (std::strcmp(isa_name(detected_isa()), "amx") == 0) add("dot amx", &ceiling_dot_amx);
#endif
  return n < count ? found[n] : Ceiling{};
}

}  // namespace nerfad
