#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "nerfad/grid_encode.h"
#include "nerfad/isa.h"

namespace nerfad {

#if defined(__x86_64__)
void grid_encode_trial_avx512(bool gathered, const GridLevel& level, const float* table,
                              const float* const* positions, int64_t n, float* features);
#endif

namespace {

// Times both ways on one level, for some 30 microseconds. Neither the vendor nor a feature bit tells: gathers
// are fast on some cores of each vendor, and microcode against data sampling makes them slow on others. The
// bits are the same either way, so that a wrong choice costs time only.
bool are_gathers_faster() {
#if defined(__x86_64__)
  if (detected_isa() < Isa::kAvx512) return false;
  constexpr int64_t kResolution = 200, kSamples = 256, kTrials = 8;
  constexpr int kLog2Entries = 12;
  const GridShape shape = make_grid_shape(3, 2, &kResolution, 1, kLog2Entries, GridKind::kHash, false);
  alignas(64) float table[2 << kLog2Entries] = {}, features[2 * kSamples], axes[3][kSamples];
  uint32_t state = 1;
  for (float* axis : axes) {
    for (int64_t i = 0; i < kSamples; ++i) {
      state = state * 1664525u + 1013904223u;
      axis[i] = static_cast<float>(state >> 8) * 0x1p-24f;
    }
  }
  const float* const positions[3] = {axes[0], axes[1], axes[2]};
  using Clock = std::chrono::steady_clock;
  Clock::duration best[2] = {Clock::duration::max(), Clock::duration::max()};
  for (int64_t k = 0; k < 2 * kTrials; ++k) {
    const auto begin = Clock::now();
    grid_encode_trial_avx512(k % 2, shape.levels[0], table, positions, kSamples, features);
    const auto took = Clock::now() - begin;
    if (took < best[k % 2]) best[k % 2] = took;
  }
  return best[1] < best[0];
#else
  return false;
#endif
}

bool from_environment() {
  const char* wanted = std::getenv("NERFAD_CPU_GATHER");
  if (wanted && std::strcmp(wanted, "0") == 0) return false;
  if (wanted && std::strcmp(wanted, "1") == 0) return true;
  return are_gathers_faster();
}

std::atomic<bool>& current() {
  static std::atomic<bool> value{from_environment()};
  return value;
}

}  // namespace

bool gathers() { return current().load(std::memory_order_relaxed); }

void set_gathers(bool on) { current().store(on, std::memory_order_relaxed); }

}  // namespace nerfad
