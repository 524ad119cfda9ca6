#include "nerfad/expand_cells.h"

#include <torch/csrc/stable/library.h>

#include <string>
#include <vector>

#include "check.h"
#include "dispatch.h"
#include "field_check.h"
#include "grid_check.h"

namespace nerfad {

namespace {

constexpr const char* kOp = "expand_cells";

Tensor expand_cells(const Tensor& table, int64_t n_dims, std::vector<int64_t> resolutions,
                    int64_t log2_table_size, int64_t kind, int64_t n_cells) {
  const Check check(kOp, table);
  field_table_type(check, table, table.scalar_type() == ScalarType::Double);
  check.that(n_dims == 2 || n_dims == 3, "n_dims must be 2 or 3, got " + std::to_string(n_dims));
  ExpandCells p{};
  p.shape = check_grid(check, table, n_dims, resolutions, log2_table_size, kind, false);
  p.n_levels = levels_with_cells(p.shape, n_cells);
  check.that(p.n_levels >= 0, "n_cells must be the entries of the first levels, none of them hashed, got " +
                                  std::to_string(n_cells));
  Tensor corners = torch::stable::new_empty(table, {n_cells, int64_t{1} << n_dims, p.shape.n_features});
  p.table = table.data_ptr();
  p.corners = corners.data_ptr();
  p.entry_bytes = static_cast<int32_t>(table.size(1) * table.element_size());
  by_dtype(kOp, table, [&](auto) { dispatch<ExpandCells>(kOp, kOp, p, table, &expand_cells_cpu); });
  return corners;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def(
      "expand_cells(Tensor table, int n_dims, int[] resolutions, int log2_table_size, int kind, int "
      "n_levels) "
      "-> Tensor");
}

NERFAD_IMPL_CPU_AND_CUDA(m) { m.impl("expand_cells", TORCH_BOX(&expand_cells)); }

}  // namespace nerfad
