// Warp functions: shuffles, votes, __syncwarp. Only __syncwarp orders memory, so that the thread sanitizer
// sees where one is missing. There is no __activemask: kernels name their lanes.
#pragma once
#include <type_traits>

#include "block.h"

namespace simt {

SIMT_HIDDEN inline void run_nothing(void* const*, uint32_t) {}
inline constexpr WarpOp kSyncWarp{run_nothing, "__syncwarp", true};
inline constexpr WarpOp kMeet{run_nothing, "a wmma load or store", false};

struct ShuffleSlot {
  uint64_t value;
  int source;
};

SIMT_HIDDEN inline void run_shuffle(void* const* slots, uint32_t mask) {
  uint64_t values[kWarp];
  for (int i = 0; i < kWarp; ++i) {
    if (mask >> i & 1) values[i] = static_cast<ShuffleSlot*>(slots[i])->value;
  }
  for (int i = 0; i < kWarp; ++i) {
    if (!(mask >> i & 1)) continue;
    auto* slot = static_cast<ShuffleSlot*>(slots[i]);
    if (!(mask >> slot->source & 1)) die("a shuffle reads from a lane outside its mask");
    slot->value = values[slot->source];
  }
}
inline constexpr WarpOp kShuffle{run_shuffle, "a shuffle", false};

template <class T>
SIMT_HIDDEN T shuffle_from(uint32_t mask, T value, int source) {
  static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
  ShuffleSlot slot{0, source};
  std::memcpy(&slot.value, &value, sizeof(T));
  collective(mask, kShuffle, &slot);
  std::memcpy(&value, &slot.value, sizeof(T));
  return value;
}

struct BallotSlot {
  bool predicate;
  uint32_t result;
};

SIMT_HIDDEN inline void run_ballot(void* const* slots, uint32_t mask) {
  uint32_t votes = 0;
  for (int i = 0; i < kWarp; ++i) {
    if ((mask >> i & 1) && static_cast<BallotSlot*>(slots[i])->predicate) votes |= 1u << i;
  }
  for (int i = 0; i < kWarp; ++i) {
    if (mask >> i & 1) static_cast<BallotSlot*>(slots[i])->result = votes;
  }
}
inline constexpr WarpOp kBallot{run_ballot, "a vote", false};

SIMT_HIDDEN inline uint32_t ballot(uint32_t mask, bool predicate) {
  BallotSlot slot{predicate, 0};
  collective(mask, kBallot, &slot);
  return slot.result;
}

struct MatchSlot {
  uint64_t value;
  uint32_t result;
};

SIMT_HIDDEN inline void run_match(void* const* slots, uint32_t mask) {
  for (int i = 0; i < kWarp; ++i) {
    if (!(mask >> i & 1)) continue;
    auto* mine = static_cast<MatchSlot*>(slots[i]);
    mine->result = 0;
    for (int j = 0; j < kWarp; ++j) {
      if ((mask >> j & 1) && static_cast<MatchSlot*>(slots[j])->value == mine->value) mine->result |= 1u << j;
    }
  }
}
inline constexpr WarpOp kMatch{run_match, "__match_any_sync", false};

SIMT_HIDDEN inline int lane() { return g_thread->lane; }

// First lane of this lane's group of `width`.
SIMT_HIDDEN inline int group_start(int width) { return lane() & ~(width - 1); }

}  // namespace simt

inline void __syncwarp(uint32_t mask = ~0u) { simt::collective(mask, simt::kSyncWarp, nullptr); }
inline uint32_t __ballot_sync(uint32_t mask, int predicate) { return simt::ballot(mask, predicate != 0); }
inline int __any_sync(uint32_t mask, int predicate) { return simt::ballot(mask, predicate != 0) != 0; }
inline int __all_sync(uint32_t mask, int predicate) { return simt::ballot(mask, predicate != 0) == mask; }

template <class T>
SIMT_HIDDEN uint32_t __match_any_sync(uint32_t mask, T value) {
  simt::MatchSlot slot{0, 0};
  std::memcpy(&slot.value, &value, sizeof(T));
  simt::collective(mask, simt::kMatch, &slot);
  return slot.result;
}

template <class T>
T __shfl_sync(uint32_t mask, T value, int source, int width = simt::kWarp) {
  return simt::shuffle_from(mask, value, simt::group_start(width) | (source & (width - 1)));
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned delta, int width = simt::kWarp) {
  const int source = simt::lane() - static_cast<int>(delta);
  return simt::shuffle_from(mask, value, source < simt::group_start(width) ? simt::lane() : source);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned delta, int width = simt::kWarp) {
  const int source = simt::lane() + static_cast<int>(delta);
  return simt::shuffle_from(mask, value, source >= simt::group_start(width) + width ? simt::lane() : source);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int lane_mask, int width = simt::kWarp) {
  const int source = simt::lane() ^ lane_mask;
  return simt::shuffle_from(mask, value, source >= simt::group_start(width) + width ? simt::lane() : source);
}

// Integer sums and extrema over the lanes of a mask (sm_80 and later).
template <class T, class Combine>
T simt_reduce(uint32_t mask, T value, Combine combine) {
  T result = value;
  bool first = true;
  for (int source = 0; source < simt::kWarp; ++source) {
    if (!(mask >> source & 1)) continue;
    const T other = simt::shuffle_from(mask, value, source);
    result = first ? other : combine(result, other);
    first = false;
  }
  return result;
}
template <class T>
T __reduce_add_sync(uint32_t mask, T value) {
  static_assert(std::is_integral_v<T>, "__reduce_add_sync takes integers");
  return simt_reduce(mask, value, [](T a, T b) { return a + b; });
}
template <class T>
T __reduce_max_sync(uint32_t mask, T value) {
  static_assert(std::is_integral_v<T>, "__reduce_max_sync takes integers");
  return simt_reduce(mask, value, [](T a, T b) { return a < b ? b : a; });
}
