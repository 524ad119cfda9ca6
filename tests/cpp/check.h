// Expectations of the C++ tests: a failure is printed and counted, and the program then exits with 1.
#pragma once
#include <cstdio>

namespace nerfad_test {

inline int& failures() {
  static int n = 0;
  return n;
}

inline void expect(bool ok, const char* what, const char* file, int line) {
  if (ok) return;
  if (++failures() <= 20) std::fprintf(stderr, "%s:%d: expected %s\n", file, line, what);
}

template <class A, class B>
void expect_equal(const A& got, const B& expected, const char* what, const char* file, int line) {
  if (got == static_cast<A>(expected)) return;
  if (++failures() <= 20) {
    std::fprintf(stderr, "%s:%d: %s: got %lld, expected %lld\n", file, line, what,
                 static_cast<long long>(got), static_cast<long long>(expected));
  }
}

inline int finish(const char* name) {
  std::printf("%s: %s\n", name, failures() ? "FAILED" : "passed");
  return failures() ? 1 : 0;
}

}  // namespace nerfad_test

#define EXPECT(condition) nerfad_test::expect((condition), #condition, __FILE__, __LINE__)
#define EXPECT_EQ(got, expected) \
  nerfad_test::expect_equal((got), (expected), #got " == " #expected, __FILE__, __LINE__)
