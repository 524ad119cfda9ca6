// Fibers: stacks that are switched by hand, so that a CUDA thread can wait in the middle of a kernel. The
// address and thread sanitizers are told of every switch.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

// The emulator itself is hidden from the thread sanitizer, which shall see the kernels' accesses only.
#define SIMT_HIDDEN __attribute__((no_sanitize("thread")))
#define SIMT_HIDDEN_CALL __attribute__((no_sanitize("thread"), noinline))

namespace simt {

constexpr size_t kStackBytes = 256 * 1024;
constexpr size_t kGuardBytes = 4096;

struct Fiber {
  void* stack_pointer = nullptr;
  const void* stack_bottom = nullptr;  // of the thread's own stack: learnt at the first switch away from it
  size_t stack_size = 0;
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
#endif
#if defined(__SANITIZE_THREAD__)
  void* tsan_fiber = nullptr;
#endif
};

#if !defined(__x86_64__)
#error "the SIMT emulator switches stacks in x86-64 assembly; port switch_stack to this processor"
#endif
// Saves the registers that a call must keep, then goes on where `load` was saved.
__attribute__((naked, noinline)) static void switch_stack(void** /*save*/, void* /*load*/) {
  asm volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}

// Leaves `from` (for good if it ends) and goes on in `to`; returns when someone switches back.
SIMT_HIDDEN_CALL inline void switch_fiber(Fiber& from, const Fiber& to, bool from_ends = false) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(from_ends ? nullptr : &from.fake_stack, to.stack_bottom, to.stack_size);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(to.tsan_fiber, __tsan_switch_to_fiber_no_sync);
#endif
  switch_stack(&from.stack_pointer, to.stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
  (void)from_ends;
}

// The first thing that a new fiber does; `parent` is the one that started it.
SIMT_HIDDEN inline void fiber_entered(Fiber& parent) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &parent.stack_bottom, &parent.stack_size);
#endif
  (void)parent;
}

inline char* allocate_stack() {
  void* memory =
      mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kGuardBytes, PROT_NONE) != 0) {
    std::fprintf(stderr, "simt: no memory for a thread's stack\n");
    std::abort();
  }
  return static_cast<char*>(memory);
}

inline void free_stack(char* stack) { munmap(stack, kStackBytes); }

// Makes the next switch to `fiber` call `entry`, which must never return.
SIMT_HIDDEN inline void prepare_fiber(Fiber& fiber, char* stack, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + kStackBytes);
  *--top = nullptr;                              // keeps the stack aligned as after a call
  *--top = reinterpret_cast<void*>(entry);       // where switch_stack returns to
  for (int i = 0; i < 6; ++i) *--top = nullptr;  // the six saved registers
  fiber.stack_pointer = top;
  fiber.stack_bottom = stack;
  fiber.stack_size = kStackBytes;
#if defined(__SANITIZE_ADDRESS__)
  fiber.fake_stack = nullptr;
#endif
#if defined(__SANITIZE_THREAD__)
  if (!fiber.tsan_fiber) fiber.tsan_fiber = __tsan_create_fiber(0);
#endif
}

}  // namespace simt
