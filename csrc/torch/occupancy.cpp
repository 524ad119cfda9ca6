#include "nerfad/occupancy.h"

#include <torch/csrc/stable/library.h>

#include <string>

#include "check.h"
#include "dispatch.h"

namespace nerfad {

namespace {

// A stray index would write outside of the grid. CUDA kernels skip it, since reporting would synchronise.
void check_indices(const Check& check, const OccupancyUpdate& p) {
  bool good = true;
  for (int64_t i = 0; i < p.n_indices; ++i) good &= occupancy_in_grid(p, i);
  if (good) return;  // without a branch in the loop the compiler makes vectors of it
  for (int64_t i = 0; i < p.n_indices; ++i) {
    if (!occupancy_in_grid(p, i)) {
      check.that(false, "indices must lie in [0, " + std::to_string(p.n_cells) + "), got " +
                            std::to_string(p.indices[i]));
    }
  }
}

void occupancy_update(const Tensor& density_grid, const Tensor& indices, const Tensor& densities,
                      double decay) {
  const char* op = "occupancy_update";
  const Check check(op, density_grid);
  check.shape(density_grid, "density_grid", {kAny}).dtype(density_grid, "density_grid", ScalarType::Float);
  check.shape(indices, "indices", {kAny}).dtype(indices, "indices", ScalarType::Int);
  check.shape(densities, "densities", {kAny, indices.size(0)}).same_dtype(densities, "densities");
  check.that(decay >= 0 && decay <= 1, "decay must be between 0 and 1, got " + std::to_string(decay));
  const OccupancyUpdate p{density_grid.mutable_data_ptr<float>(),
                          indices.const_data_ptr<int32_t>(),
                          densities.const_data_ptr<float>(),
                          density_grid.size(0),
                          indices.size(0),
                          densities.size(0),
                          static_cast<float>(decay)};
  if (!density_grid.is_cuda()) check_indices(check, p);
  dispatch(op, op, p, density_grid, &occupancy_update_cpu);
}

Tensor pack_bitfield(const Tensor& density_grid, double threshold) {
  const char* op = "pack_bitfield";
  const Check check(op, density_grid);
  check.shape(density_grid, "density_grid", {kAny}).dtype(density_grid, "density_grid", ScalarType::Float);
  check.that(density_grid.size(0) % 8 == 0,
             "density_grid must have a multiple of 8 cells, got " + std::to_string(density_grid.size(0)));
  Tensor bitfield = torch::stable::new_empty(density_grid, {density_grid.size(0) / 8}, ScalarType::Byte);
  const PackBitfield p{density_grid.const_data_ptr<float>(), bitfield.mutable_data_ptr<uint8_t>(),
                       bitfield.size(0), static_cast<float>(threshold)};
  dispatch(op, op, p, density_grid, &pack_bitfield_cpu);
  return bitfield;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def("occupancy_update(Tensor(a!) density_grid, Tensor indices, Tensor densities, float decay) -> ()");
  m.def("pack_bitfield(Tensor density_grid, float threshold) -> Tensor");
}

NERFAD_IMPL_CPU_AND_CUDA(m) {
  m.impl("occupancy_update", TORCH_BOX(&occupancy_update));
  m.impl("pack_bitfield", TORCH_BOX(&pack_bitfield));
}

}  // namespace nerfad
