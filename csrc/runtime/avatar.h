// A trained avatar without torch: owns its parameters and draws a frame from a camera pose and a condition.
#pragma once
#include <array>
#include <optional>
#include <vector>

#include "nerfad/conditioned_mlp.h"
#include "nerfad/grid_encode.h"
#include "pool.h"

namespace nerfad {

struct Network {
  MlpShape shape;
  std::vector<float> params;
};

struct Grid {
  GridShape shape;
  TableType type;
  std::vector<uint64_t> table;  // bytes of the table, aligned
};

struct HeadField {
  Grid grid;
  Network sigma, color;  // the colour network takes the view among its inputs
  std::vector<uint64_t> bitfield;
  int resolution;
  float step_size, density_bias;
  int max_samples_per_ray;
};

// Neck and torso, the layer behind the head: a picture that the body's motion and a small deformation move.
// Points are in picture heights from the middle of the lower edge.
struct TorsoLayer {
  Grid grid;
  Network deformation, picture;  // their condition, if they have one, is the description of the pose
  int n_octaves;
  float max_deformation;
};

struct PinholeCamera {
  float fl_x, fl_y, cx, cy, pixel_offset;
  int height, width;
};

struct Pose {
  std::array<float, 12> c2w;    // rows of [3, 4], box units
  std::array<float, 4> body;    // dx, dy (picture heights), rotation, log scale
  std::vector<float> describe;  // what the torso's networks see
};

class Avatar {
 public:
  Avatar(HeadField head, std::optional<TorsoLayer> torso, const PinholeCamera& camera, int n_threads);

  // background [height, width, 3] in 0..1; image [height, width, 3].
  void render(const Pose& pose, const std::vector<float>& cond, const float* background, uint8_t* image);

  const PinholeCamera& camera() const { return camera_; }
  int n_cond() const { return head_.sigma.shape.d_cond; }
  int n_pose() const { return torso_ ? torso_->deformation.shape.d_cond : 0; }
  int n_threads() const { return pool_.n_threads(); }

 private:
  void cast_rays(const Pose& pose);
  void draw_torso(const Pose& pose, int64_t first, int64_t n);
  void draw_head(const std::vector<float>& cond);
  void apply(const Network& network, const float* x, const float* cond, int64_t n, float* out);

  HeadField head_;
  std::optional<TorsoLayer> torso_;
  PinholeCamera camera_;
  Pool pool_;
  // Memory of a frame, kept from one to the next.
  std::vector<float> rays_o_, rays_d_, t_min_, t_max_, behind_, colors_, opacities_, depths_;
  std::vector<float> points_, waves_, shift_, features_, rgba_, scratch_, grid_scratch_;
  std::vector<uint64_t> render_scratch_;
};

}  // namespace nerfad
