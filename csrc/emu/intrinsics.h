// CUDA's per-thread functions: bit tricks, fast maths, cached loads, atomics.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() {}

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T value) {
  *p = value;
}
template <class T>
void __stcg(T* p, T value) {
  *p = value;
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }

inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }  // NaN gives 0
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline int __float2int_rd(float x) { return static_cast<int>(std::floor(x)); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline float __int_as_float(int x) {
  float result;
  std::memcpy(&result, &x, sizeof(result));
  return result;
}
inline int __float_as_int(float x) {
  int result;
  std::memcpy(&result, &x, sizeof(result));
  return result;
}
inline float __uint_as_float(unsigned x) { return __int_as_float(static_cast<int>(x)); }
inline unsigned __float_as_uint(float x) { return static_cast<unsigned>(__float_as_int(x)); }

template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}

namespace simt {

template <size_t size>
using UintOfSize = std::conditional_t<size == 8, uint64_t, std::conditional_t<size == 4, uint32_t, uint16_t>>;

// Atomic read-modify-write of any type of 2, 4 or 8 bytes; returns what was there before.
template <class T, class Update>
T atomic_update(T* address, Update update) {
  using Bits = UintOfSize<sizeof(T)>;
  Bits* bits = reinterpret_cast<Bits*>(address);
  Bits before = __atomic_load_n(bits, __ATOMIC_RELAXED), after;
  T old_value;
  do {
    std::memcpy(static_cast<void*>(&old_value), &before, sizeof(T));
    const T new_value = update(old_value);
    std::memcpy(&after, static_cast<const void*>(&new_value), sizeof(T));
  } while (!__atomic_compare_exchange_n(bits, &before, after, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old_value;
}

inline __half2 add_pairs(__half2 a, __half2 b) { return __hadd2(a, b); }
inline __nv_bfloat162 add_pairs(__nv_bfloat162 a, __nv_bfloat162 b) { return __hadd2(a, b); }

}  // namespace simt

template <class T>
std::enable_if_t<std::is_arithmetic_v<T>, T> atomicAdd(T* p, T value) {
  return simt::atomic_update(p, [=](T old) { return static_cast<T>(old + value); });
}
inline __half atomicAdd(__half* p, __half value) {
  return simt::atomic_update(p, [=](__half old) { return __hadd(old, value); });
}
inline __nv_bfloat16 atomicAdd(__nv_bfloat16* p, __nv_bfloat16 value) {
  return simt::atomic_update(p, [=](__nv_bfloat16 old) { return __hadd(old, value); });
}
inline __half2 atomicAdd(__half2* p, __half2 value) {
  return simt::atomic_update(p, [=](__half2 old) { return simt::add_pairs(old, value); });
}
inline __nv_bfloat162 atomicAdd(__nv_bfloat162* p, __nv_bfloat162 value) {
  return simt::atomic_update(p, [=](__nv_bfloat162 old) { return simt::add_pairs(old, value); });
}
template <class T>
T atomicSub(T* p, T value) {
  return simt::atomic_update(p, [=](T old) { return static_cast<T>(old - value); });
}
template <class T>
T atomicMax(T* p, T value) {
  return simt::atomic_update(p, [=](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* p, T value) {
  return simt::atomic_update(p, [=](T old) { return value < old ? value : old; });
}
template <class T>
T atomicOr(T* p, T value) {
  return simt::atomic_update(p, [=](T old) { return static_cast<T>(old | value); });
}
template <class T>
T atomicAnd(T* p, T value) {
  return simt::atomic_update(p, [=](T old) { return static_cast<T>(old & value); });
}
template <class T>
T atomicExch(T* p, T value) {
  return simt::atomic_update(p, [=](T) { return value; });
}
template <class T>
T atomicCAS(T* p, T compare, T value) {
  return simt::atomic_update(p, [=](T old) { return old == compare ? value : old; });
}
