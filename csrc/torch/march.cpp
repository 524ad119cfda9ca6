#include "nerfad/march.h"

#include <torch/csrc/stable/library.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <tuple>

#include "check.h"
#include "dispatch.h"

namespace nerfad {

namespace {

void check_grid(const Check& check, const Tensor& aabb, const Tensor& density_bitfield, int64_t resolution,
                double step_size, double cone_angle) {
  check.that(resolution >= 4 && resolution <= 256 && (resolution & (resolution - 1)) == 0,
             "resolution must be a power of two from 4 to 256, got " + std::to_string(resolution));
  check.shape(aabb, "aabb", {6}).same_dtype(aabb, "aabb");
  check.shape(density_bitfield, "density_bitfield", {resolution * resolution * resolution / 8})
      .dtype(density_bitfield, "density_bitfield", ScalarType::Byte);
  check.that(reinterpret_cast<uintptr_t>(density_bitfield.const_data_ptr<uint8_t>()) % 8 == 0,
             "density_bitfield must start at a multiple of 8 bytes; call .clone() on it");
  check.that(step_size > 0 && std::isfinite(step_size),
             "step_size must be positive, got " + std::to_string(step_size));
  check.that(cone_angle >= 0 && std::isfinite(cone_angle),
             "cone_angle must not be negative, got " + std::to_string(cone_angle));
}

void check_rays(const Check& check, const Tensor& rays_o, const Tensor& rays_d, const Tensor& t_min,
                const Tensor& t_max, const std::optional<Tensor>& jitter) {
  const int64_t n_rays = rays_o.dim() == 2 ? rays_o.size(0) : kAny;
  check.shape(rays_o, "rays_o", {kAny, 3}).dtype(rays_o, "rays_o", ScalarType::Float);
  check.shape(rays_d, "rays_d", {n_rays, 3}).same_dtype(rays_d, "rays_d");
  check.shape(t_min, "t_min", {n_rays}).same_dtype(t_min, "t_min");
  check.shape(t_max, "t_max", {n_rays}).same_dtype(t_max, "t_max");
  if (jitter) check.shape(*jitter, "jitter", {n_rays}).same_dtype(*jitter, "jitter");
  check.that(n_rays < std::numeric_limits<int32_t>::max(), "rays_o must hold fewer than 2^31 rays");
}

// Which 8x8x8 bricks hold anything, and the box around them.
struct Bricks {
  Tensor occupied, bounds;
};

MarchRays rays(const Tensor& rays_o, const Tensor& rays_d, const Tensor& t_min, const Tensor& t_max,
               const Tensor& aabb, const Tensor& density_bitfield, const Bricks* bricks, int64_t resolution,
               double step_size, double cone_angle, const std::optional<Tensor>& jitter) {
  MarchRays p{};
  p.grid.aabb = aabb.const_data_ptr<float>();
  p.grid.bitfield = reinterpret_cast<const uint64_t*>(density_bitfield.const_data_ptr<uint8_t>());
  p.grid.bricks = bricks ? bricks->occupied.const_data_ptr<uint8_t>() : nullptr;
  p.grid.bounds = bricks ? bricks->bounds.const_data_ptr<float>() : nullptr;
  p.grid.resolution = static_cast<int>(resolution);
  p.grid.step_size = static_cast<float>(step_size);
  p.grid.cone_angle = static_cast<float>(cone_angle);
  p.rays_o = rays_o.const_data_ptr<float>();
  p.rays_d = rays_d.const_data_ptr<float>();
  p.t_min = t_min.const_data_ptr<float>();
  p.t_max = t_max.const_data_ptr<float>();
  p.jitter = jitter ? jitter->const_data_ptr<float>() : nullptr;
  p.n_rays = rays_o.size(0);
  return p;
}

// One read of the bitfield, and long skips thereafter.
std::optional<Bricks> make_bricks(const char* op, const Tensor& density_bitfield, int64_t resolution) {
  if (resolution < kBrick) return std::nullopt;
  const int64_t side = resolution / kBrick;
  const int64_t n_bricks = side * side * side;
  constexpr int64_t kSpareBytes = 3;  // vector units gather four bytes at a time
  Bricks bricks{torch::stable::new_empty(density_bitfield, {n_bricks + kSpareBytes}),
                torch::stable::new_empty(density_bitfield, {6}, ScalarType::Float)};
  const MarchBricks p{reinterpret_cast<const uint64_t*>(density_bitfield.const_data_ptr<uint8_t>()),
                      bricks.occupied.mutable_data_ptr<uint8_t>(), n_bricks,
                      bricks.bounds.mutable_data_ptr<float>()};
  dispatch(op, "march_bricks", p, density_bitfield, &march_bricks_cpu);
  return bricks;
}

std::tuple<Tensor, Tensor> march_count(const Tensor& rays_o, const Tensor& rays_d, const Tensor& t_min,
                                       const Tensor& t_max, const Tensor& aabb,
                                       const Tensor& density_bitfield, int64_t resolution, double step_size,
                                       double cone_angle, std::optional<Tensor> jitter) {
  const char* op = "march";
  const Check check(op, rays_o);
  check_rays(check, rays_o, rays_d, t_min, t_max, jitter);
  check_grid(check, aabb, density_bitfield, resolution, step_size, cone_angle);
  const int64_t n_rays = rays_o.size(0);
  const std::optional<Bricks> bricks = make_bricks(op, density_bitfield, resolution);
  Tensor counts = torch::stable::new_empty(rays_o, {n_rays}, ScalarType::Int);
  Tensor runs = torch::stable::new_empty(rays_o, {n_rays, kMarchRuns, 2}, ScalarType::Int);
  const MarchCount p{rays(rays_o, rays_d, t_min, t_max, aabb, density_bitfield, bricks ? &*bricks : nullptr,
                          resolution, step_size, cone_angle, jitter),
                     counts.mutable_data_ptr<int32_t>(), runs.mutable_data_ptr<int32_t>()};
  dispatch(op, "march_count", p, rays_o, &march_count_cpu);
  return {counts, runs};
}

std::tuple<Tensor, Tensor> march_pack(const Tensor& counts, int64_t max_samples,
                                      int64_t max_samples_per_ray) {
  const char* op = "march";
  const Check check(op, counts);
  check.shape(counts, "counts", {kAny}).dtype(counts, "counts", ScalarType::Int);
  check.that(max_samples >= 0, "max_samples must not be negative, got " + std::to_string(max_samples));
  check.that(max_samples_per_ray >= 0,
             "max_samples_per_ray must not be negative, got " + std::to_string(max_samples_per_ray));
  Tensor packed_info = torch::stable::new_empty(counts, {counts.size(0), 2}, ScalarType::Long);
  Tensor totals = torch::stable::new_empty(counts, {2}, ScalarType::Long);
  const MarchPack p{counts.const_data_ptr<int32_t>(),
                    packed_info.mutable_data_ptr<int64_t>(),
                    totals.mutable_data_ptr<int64_t>(),
                    counts.size(0),
                    max_samples,
                    max_samples_per_ray};
  dispatch(op, "march_pack", p, counts, &march_pack_cpu);
  return {packed_info, totals};
}

std::tuple<Tensor, Tensor, Tensor> march_write(const Tensor& rays_o, const Tensor& rays_d,
                                               const Tensor& t_min, const Tensor& t_max, const Tensor& aabb,
                                               const Tensor& density_bitfield, int64_t resolution,
                                               double step_size, double cone_angle,
                                               std::optional<Tensor> jitter, const Tensor& packed_info,
                                               const Tensor& runs, int64_t n_samples, bool padded) {
  const std::initializer_list<int64_t> size{n_samples};
  auto make = [&](ScalarType type) {
    return padded ? torch::stable::new_zeros(rays_o, size, type)
                  : torch::stable::new_empty(rays_o, size, type);
  };
  Tensor t_starts = make(ScalarType::Float), t_ends = make(ScalarType::Float);
  Tensor ray_indices = make(ScalarType::Int);
  const MarchWrite p{rays(rays_o, rays_d, t_min, t_max, aabb, density_bitfield, nullptr, resolution,
                          step_size, cone_angle, jitter),
                     packed_info.const_data_ptr<int64_t>(),
                     runs.const_data_ptr<int32_t>(),
                     t_starts.mutable_data_ptr<float>(),
                     t_ends.mutable_data_ptr<float>(),
                     ray_indices.mutable_data_ptr<int32_t>()};
  dispatch("march", "march_write", p, rays_o, &march_write_cpu);
  return {t_starts, t_ends, ray_indices};
}

void check_alive(const Check& check, const Tensor& alive, int64_t n_rays) {
  const int32_t* ids = alive.const_data_ptr<int32_t>();
  for (int64_t i = 0; i < alive.size(0); ++i) {
    if (ids[i] < 0 || ids[i] >= n_rays) {
      check.that(false,
                 "alive must lie in [0, " + std::to_string(n_rays) + "), got " + std::to_string(ids[i]));
    }
  }
}

std::tuple<Tensor, Tensor, Tensor, Tensor> march_inference(const Tensor& rays_o, const Tensor& rays_d,
                                                           const Tensor& t_min, const Tensor& t_max,
                                                           const Tensor& aabb, const Tensor& density_bitfield,
                                                           int64_t resolution, double step_size,
                                                           const Tensor& alive, const Tensor& cursors,
                                                           int64_t n_steps, double cone_angle) {
  const char* op = "march_inference";
  const Check check(op, rays_o);
  check_rays(check, rays_o, rays_d, t_min, t_max, std::nullopt);
  check_grid(check, aabb, density_bitfield, resolution, step_size, cone_angle);
  check.shape(alive, "alive", {kAny}).dtype(alive, "alive", ScalarType::Int);
  check.shape(cursors, "cursors", {rays_o.size(0)}).same_dtype(cursors, "cursors");
  check.that(n_steps >= 1, "n_steps must be at least 1, got " + std::to_string(n_steps));
  if (!alive.is_cuda()) check_alive(check, alive, rays_o.size(0));
  const std::optional<Bricks> bricks = make_bricks(op, density_bitfield, resolution);
  const int64_t n_alive = alive.size(0), n_slots = n_alive * n_steps;
  Tensor packed_info = torch::stable::new_empty(alive, {n_alive, 2}, ScalarType::Long);
  Tensor t_starts = torch::stable::new_zeros(rays_o, {n_slots});
  Tensor t_ends = torch::stable::new_zeros(rays_o, {n_slots});
  Tensor ray_indices = torch::stable::new_zeros(alive, {n_slots});
  const MarchInference p{rays(rays_o, rays_d, t_min, t_max, aabb, density_bitfield,
                              bricks ? &*bricks : nullptr, resolution, step_size, cone_angle, std::nullopt),
                         alive.const_data_ptr<int32_t>(),
                         cursors.mutable_data_ptr<float>(),
                         packed_info.mutable_data_ptr<int64_t>(),
                         t_starts.mutable_data_ptr<float>(),
                         t_ends.mutable_data_ptr<float>(),
                         ray_indices.mutable_data_ptr<int32_t>(),
                         n_alive,
                         n_steps};
  dispatch(op, op, p, rays_o, &march_inference_cpu);
  return {packed_info, t_starts, t_ends, ray_indices};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def(
      "march_count(Tensor rays_o, Tensor rays_d, Tensor t_min, Tensor t_max, Tensor aabb, "
      "Tensor density_bitfield, int resolution, float step_size, float cone_angle, Tensor? jitter) "
      "-> (Tensor, Tensor)");
  m.def("march_pack(Tensor counts, SymInt max_samples, SymInt max_samples_per_ray) -> (Tensor, Tensor)");
  m.def(
      "march_write(Tensor rays_o, Tensor rays_d, Tensor t_min, Tensor t_max, Tensor aabb, "
      "Tensor density_bitfield, int resolution, float step_size, float cone_angle, Tensor? jitter, "
      "Tensor packed_info, Tensor runs, SymInt n_samples, bool padded) -> (Tensor, Tensor, Tensor)");
  m.def(
      "march_inference(Tensor rays_o, Tensor rays_d, Tensor t_min, Tensor t_max, Tensor aabb, "
      "Tensor density_bitfield, int resolution, float step_size, Tensor alive, Tensor(a!) cursors, "
      "SymInt n_steps, float cone_angle) -> (Tensor, Tensor, Tensor, Tensor)");
}

NERFAD_IMPL_CPU_AND_CUDA(m) {
  m.impl("march_count", TORCH_BOX(&march_count));
  m.impl("march_pack", TORCH_BOX(&march_pack));
  m.impl("march_write", TORCH_BOX(&march_write));
  m.impl("march_inference", TORCH_BOX(&march_inference));
}

}  // namespace nerfad
