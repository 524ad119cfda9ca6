#include "nerfad/ceilings.h"

#include <sched.h>
#include <torch/csrc/stable/library.h>

#include <string>

#include "dispatch.h"

namespace nerfad {

namespace {

// The names of the loops that this machine can run, separated by commas.
std::string ceiling_names() {
  std::string names;
  for (int n = 0; ceiling(n).loop; ++n) names += (n ? "," : "") + std::string(ceiling(n).name);
  return names;
}

// Every thread of torch's pool runs the loop on its row of `buffers` at once. The sum of their work.
double run_ceiling(std::string name, Tensor buffers, int64_t iterations) {
  int n = 0;
  while (ceiling(n).loop && name != ceiling(n).name) ++n;
  require(ceiling(n).loop != nullptr, "nerfad: this machine has no loop ", name);
  const int64_t n_floats = buffers.size(1);
  require(n_floats >= 1024 && (n_floats & (n_floats - 1)) == 0 && buffers.is_contiguous(),
          "nerfad: buffers must be contiguous, each a power of two of floats");
  auto* data = buffers.mutable_data_ptr<float>();
  const int64_t n_rows = buffers.size(0);
  double work = 0;  // each row does the same work
  torch_pool()(n_rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const double done = ceiling(n).loop({data + row * n_floats, n_floats}, iterations);
      if (row == 0) work = done;
    }
  });
  return work * static_cast<double>(n_rows);
}

// The CPU that each thread of torch's pool runs on.
void pool_cpus(Tensor cpus) {
  auto* out = cpus.mutable_data_ptr<int64_t>();
  torch_pool()(cpus.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = sched_getcpu();
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def("_ceiling_names() -> str");
  m.def("_run_ceiling(str name, Tensor(a!) buffers, int iterations) -> float");
  m.def("_pool_cpus(Tensor(a!) cpus) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(nerfad, CompositeExplicitAutograd, m) {
  m.impl("_ceiling_names", TORCH_BOX(&ceiling_names));
  m.impl("_run_ceiling", TORCH_BOX(&run_ceiling));
  m.impl("_pool_cpus", TORCH_BOX(&pool_cpus));
}

}  // namespace nerfad
