// The inputs of the ops that evaluate a radiance field at samples, checked.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "field_check.h"
#include "nerfad/radiance_field.h"

namespace nerfad {

struct FieldInputs {
  const Tensor& positions;
  const Tensor& table;
  const std::vector<int64_t>& grid;
  const Tensor& sigma_params;
  const std::vector<int64_t>& sigma;
  const Tensor& color_params;
  const std::vector<int64_t>& color;
  const Tensor& views;
  const std::optional<Tensor>& ray_indices;
  const std::optional<Tensor>& cond;
  const std::optional<Tensor>& cond_index;
  double density_bias;
  bool bfloat16;
};

struct FieldShapes {
  TableType table_type;
  GridShape grid;
  MlpShape sigma, color;
};

// Index [n] in [0, n_rows) or none. On CUDA the range is not read: that would synchronise.
inline void check_field_index(const Check& check, const std::optional<Tensor>& index, const char* name,
                              int64_t n, int64_t n_rows) {
  if (!index) return;
  check.shape(*index, name, {n}).dtype(*index, name, ScalarType::Int);
  if (index->is_cuda() || n == 0) return;
  const int32_t* p = index->const_data_ptr<int32_t>();
  int32_t low = 0, high = 0;
  for (int64_t i = 0; i < n; ++i) {
    low = p[i] < low ? p[i] : low;
    high = p[i] > high ? p[i] : high;
  }
  check.that(low >= 0 && high < n_rows, std::string(name) + " must be in [0, " + std::to_string(n_rows) +
                                            "), got " + std::to_string(low < 0 ? low : high));
}

inline void check_field_networks(const Check& check, const FieldInputs& in, FieldShapes& shapes) {
  MlpShape &sigma = shapes.sigma, &color = shapes.color;
  sigma = field_mlp(check, in.sigma, in.sigma_params, "sigma_params");
  color = field_mlp(check, in.color, in.color_params, "color_params");
  const auto sizes = [](const char* what, int64_t expected, int64_t got) {
    return std::string(what) + " must be " + std::to_string(expected) + ", got " + std::to_string(got);
  };
  const int64_t n_features = shapes.grid.n_outputs(), n_code = sigma.d_out - 1, n_view = in.views.size(1);
  check.that(sigma.d_in == n_features, sizes("sigma_spec.d_in (the grid's outputs)", n_features, sigma.d_in));
  check.that(n_code >= 1, sizes("sigma_spec.d_out (log density and code) at least", 2, sigma.d_out));
  check.that(color.d_in + color.d_cond == n_code + n_view,
             sizes("color_spec.d_in + d_cond (code and view)", n_code + n_view, color.d_in + color.d_cond));
  check.that(color.d_out == 3, sizes("color_spec.d_out", 3, color.d_out));
  check.that(!sigma.sigmoid, "the density network has no output activation");
  // Views as inputs or as conditions: the parameters lie in the same order.
  color.d_in = static_cast<int>(n_code);
  color.d_cond = static_cast<int>(n_view);
}

// `n_indexed`: samples, or rays where views and conditions are theirs.
inline FieldShapes check_field_inputs(const char* op, const FieldInputs& in, int64_t n_indexed) {
  check_float_or_double(op, in.positions, "positions");
  const Check check(op, in.positions);
  check.shape(in.positions, "positions", {kAny, 3}).shape(in.table, "table", {kAny, kAny});
  check.that(!in.bfloat16 || in.positions.scalar_type() == ScalarType::Float,
             "precision bfloat16 needs float32 tensors");
  check.that(!in.bfloat16 || !(in.positions.is_cuda() || emulating()),
             "precision bfloat16 runs on the CPU only; CUDA kernels always multiply in half precision: leave "
             "precision at float32");
  const int64_t n = in.positions.size(0);
  check.that(n < (int64_t{1} << 31), "positions must have fewer than 2^31 rows");
  FieldShapes shapes{};
  shapes.table_type = field_table_type(check, in.table, in.positions.scalar_type() == ScalarType::Double);
  shapes.grid = field_grid(check, in.table, in.grid);
  check.shape(in.views, "views", {kAny, kAny}).same_dtype(in.views, "views");
  check.that(in.views.size(0) >= 1 || n_indexed == 0, "views must hold at least one view");
  check_field_networks(check, in, shapes);
  check.that(in.cond.has_value() == (shapes.sigma.d_cond > 0),
             in.cond ? "cond must be None for a network without conditions"
                     : "cond must be given for a network with conditions");
  if (in.cond) {
    check.shape(*in.cond, "cond", {kAny, shapes.sigma.d_cond}).same_dtype(*in.cond, "cond");
    check.that(in.cond->size(0) >= 1, "cond must hold at least one condition");
  }
  check_field_index(check, in.ray_indices, "ray_indices", n_indexed, in.views.size(0));
  check_field_index(check, in.cond_index, "cond_index", n_indexed, in.cond ? in.cond->size(0) : 1);
  return shapes;
}

template <class T>
RadianceFieldFwd<T> field_params(const FieldInputs& in, const FieldShapes& shapes) {
  RadianceFieldFwd<T> p{};
  p.positions = in.positions.const_data_ptr<T>();
  p.table = in.table.data_ptr();
  p.sigma_params = in.sigma_params.const_data_ptr<T>();
  p.color_params = in.color_params.const_data_ptr<T>();
  p.cond = in.cond ? in.cond->const_data_ptr<T>() : nullptr;
  p.cond_index = in.cond_index ? in.cond_index->const_data_ptr<int32_t>() : nullptr;
  p.views = in.views.const_data_ptr<T>();
  p.view_index = in.ray_indices ? in.ray_indices->const_data_ptr<int32_t>() : nullptr;
  p.n = in.positions.size(0);
  p.n_cond = in.cond ? in.cond->size(0) : 1;
  p.n_views = in.views.size(0);
  p.table_type = shapes.table_type;
  p.grid = shapes.grid;
  p.sigma = shapes.sigma;
  p.color = shapes.color;
  p.density_bias = static_cast<T>(in.density_bias);
  p.precision = in.bfloat16 ? MlpPrecision::kBFloat16 : MlpPrecision::kFloat32;
  return p;
}

// What the number of features is divided by if they are kept: the networks' kernels take whole vectors.
inline int features_pad(bool bfloat16) { return bfloat16 ? 32 : 16; }

inline ScalarType features_type(const Tensor& positions, bool bfloat16) {
  return bfloat16 ? ScalarType::BFloat16 : positions.scalar_type();
}

// The backward pass only reads them.
template <class T>
void set_features(RadianceFieldFwd<T>& p, const Tensor& features, bool bfloat16) {
  if (bfloat16) {
    p.rounded_features = static_cast<BFloat16*>(features.data_ptr());
  } else {
    p.features = static_cast<T*>(features.data_ptr());
  }
}

// Memory for the features of all samples, or of none.
inline Tensor new_features(const char* op, const FieldInputs& in, const FieldShapes& shapes, bool keeps) {
  const bool on_cpu = !in.positions.is_cuda() && !emulating();
  STD_TORCH_CHECK(!keeps || (on_cpu && shapes.sigma.d_in % features_pad(in.bfloat16) == 0), op,
                  ": features are kept on the CPU only, and only if their number is a multiple of ",
                  features_pad(in.bfloat16));
  return torch::stable::new_empty(in.positions, {keeps ? in.positions.size(0) : 0, shapes.sigma.d_in},
                                  features_type(in.positions, in.bfloat16));
}

}  // namespace nerfad
