// The fused renderer for one instruction set: kRenderSlots rays are in flight; each round takes their next
// samples, evaluates them together, and lets new rays in where one has come to its end.
#pragma once
#include "conditioned_mlp_tiles.h"
#include "render_cache.h"
#include "render_rays_task.h"

namespace nerfad {
namespace {

template <class S, class Encode>
class Renderer {
 public:
  explicit Renderer(const RenderTask<MlpOperand<S>>& task)
      : task_(task), p_(*task.p), b_(*task.buffers), block_(task.first_block) {
    next_ray_ = block_ * kRenderBlock;
    for (int l = 0; l < kMaxHiddenLayers; ++l) hidden_[l] = operands(b_.layers[l % 2]);
  }

  void run() {
    [[maybe_unused]] const typename MlpArithmetic<S>::Scope scope;
    for (;;) {
      admit();
      if (n_slots_ == 0) return;
      take_samples();
      if (p_.samples.packed_info) {
        copy_cached_features(p_, b_, n_samples_);
      } else {
        Encode::run(p_, b_, n_samples_);
      }
      for (int first = 0; first < n_samples_; first += kMlpTile) evaluate(first);
      retire();
    }
  }

 private:
  static MlpOperand<S>* operands(float* memory) { return reinterpret_cast<MlpOperand<S>*>(memory); }

  // The next ray of this task, or -1.
  int64_t pull() {
    const int64_t n_rays = p_.rays.n_rays;
    if (next_ray_ >= (block_ + 1) * kRenderBlock) {
      block_ += task_.block_step;
      next_ray_ = block_ * kRenderBlock;
    }
    return next_ray_ < n_rays ? next_ray_++ : -1;
  }

  // Fills the free slots with rays that have a sample; the others show the background.
  void admit() {
    while (n_slots_ < kRenderSlots) {
      const int64_t index = pull();
      if (index < 0) return;
      RenderSlot& slot = b_.slots[n_slots_];
      slot.index = index;
      slot.sum = render_begin();
      slot.n_samples = 0;
      slot.ended = false;
      if (find_start(slot)) {
        view_bias(slot);
        ++n_slots_;
      } else {
        render_finish(p_, index, slot.sum);
      }
    }
  }

  // Puts the cursor on the ray's first sample, if it has one. Growing steps start over from t_min instead:
  // their cursor cannot go back.
  bool find_start(RenderSlot& slot) {
    if (p_.samples.packed_info) return start_cached(p_, slot);
    const MarchGrid& grid = task_.rays.grid;
    int first;
    if (!march_ray_setup(task_.rays, slot.index, slot.ray, first)) return false;
    const bool growing = grid.cone_angle > 0.0f;
    MarchSample sample;
    MarchCursor ahead = slot.cursor = march_begin(grid, slot.ray, first);
    if (!march_next(grid, slot.ray, ahead, sample)) return false;
    if (!growing) slot.cursor.step = ahead.step - 1;
    return true;
  }

  // W_view sh(d) + b: the colour network's first bias for all samples of a ray.
  void view_bias(const RenderSlot& slot) {
    const int width = mlp_padded(p_.color.d_hidden);
    float view[kViewCoefficients];
    render_view(p_, slot.index, view);
    float* to = b_.view_bias + n_slots_ * width;
    const float* weights = task_.color.exact_weights(0) + p_.n_code() * width;
    for (int n = 0; n < width; n += S::kWidth) {
      auto sum = S::load(task_.color.bias(0) + n);
      for (int j = 0; j < kViewCoefficients; ++j) {
        sum = S::multiply_add(S::broadcast(view[j]), S::load(weights + j * width + n), sum);
      }
      S::store(to + n, sum);
    }
  }

  // The slot's next sample, and where its features come from.
  bool next_sample(RenderSlot& slot, MarchSample& sample) {
    if (p_.samples.packed_info) {
      b_.cached[n_samples_] = slot.cursor.step;
      return next_cached(p_, slot, sample);
    }
    if (!march_next(task_.rays.grid, slot.ray, slot.cursor, sample)) return false;
    for (int a = 0; a < 3; ++a) {
      b_.axes[a][n_samples_] = render_position(slot.ray, task_.rays.grid.resolution, sample, a);
    }
    return true;
  }

  void take_samples() {
    // While rays wait, one sample of each in flight; at the end, as many as fill the tiles.
    const int take = kRenderSlots / n_slots_;
    n_samples_ = 0;
    for (int s = 0; s < n_slots_; ++s) {
      RenderSlot& slot = b_.slots[s];
      for (int k = 0; k < take && !slot.ended; ++k) {
        MarchSample sample;
        slot.ended = slot.n_samples >= p_.max_samples_per_ray || !next_sample(slot, sample);
        if (slot.ended) break;
        ++slot.n_samples;
        b_.samples[n_samples_] = sample;
        b_.slot_of[n_samples_++] = s;
      }
    }
    for (int i = n_samples_; i < kRenderSlots; ++i) b_.slot_of[i] = 0;
  }

  // Runs both networks on the tile of samples from `first` on, and integrates them in order.
  void evaluate(int first) {
    const int n = n_samples_ - first < kMlpTile ? n_samples_ - first : kMlpTile;
    const int n_features = p_.sigma.d_in, code_stride = mlp_padded(p_.sigma.d_out);
    const int rgb_stride = mlp_padded(p_.color.d_out);
    const MlpOperands<S> features = tile_operands<S>(b_.features + first * n_features, n_features, kMlpTile,
                                                     n_features, Padding::kUnread, operands(b_.layers[2]));
    mlp_forward_tile<S>(task_.sigma, {task_.sigma.folded(), nullptr, n_features}, features.data,
                        features.stride, hidden_, b_.code, code_stride);
    const MlpOperands<S> code = tile_operands<S>(b_.code + 1, code_stride, kMlpTile, p_.n_code(),
                                                 Padding::kUnread, operands(b_.layers[2]));
    mlp_forward_tile<S>(task_.color, {b_.view_bias, b_.slot_of + first, p_.n_code()}, code.data, code.stride,
                        hidden_, b_.rgb, rgb_stride);
    densities_to_keep(first, n, code_stride);
    float rgb[3 * kMlpTile];
    copy_rows(b_.rgb, rgb_stride, rgb, 3, n, 3);
    if (p_.color.sigmoid) sigmoid_in_place<S>(rgb, 3 * n);
    for (int m = 0; m < n; ++m) {
      RenderSum& sum = b_.slots[b_.slot_of[first + m]].sum;
      if (sum.transmittance < p_.early_stop_eps) continue;
      render_add(sum, b_.keep[m], b_.samples[first + m], rgb + 3 * m);
    }
  }

  // keep = exp(-sigma * length), sigma = exp(clamp(h_0 + bias)).
  void densities_to_keep(int first, int n, int code_stride) {
    for (int m = 0; m < n; ++m) {
      const float h = b_.code[m * code_stride] + p_.density_bias;
      b_.keep[m] = h < -kLogDensityLimit ? -kLogDensityLimit : (h > kLogDensityLimit ? kLogDensityLimit : h);
    }
    exp_in_place<S>(b_.keep, n);
    for (int m = 0; m < n; ++m) {
      const MarchSample& sample = b_.samples[first + m];
      b_.keep[m] *= sample.t_start - sample.t_end;
    }
    exp_in_place<S>(b_.keep, n);
  }

  // Writes finished rays and closes the gaps that they leave.
  void retire() {
    const int width = mlp_padded(p_.color.d_hidden);
    int kept = 0;
    for (int s = 0; s < n_slots_; ++s) {
      const RenderSlot& slot = b_.slots[s];
      if (slot.ended || slot.sum.transmittance < p_.early_stop_eps) {
        render_finish(p_, slot.index, slot.sum);
        continue;
      }
      if (kept != s) {
        b_.slots[kept] = slot;
        std::memcpy(b_.view_bias + kept * width, b_.view_bias + s * width, sizeof(float) * width);
      }
      ++kept;
    }
    n_slots_ = kept;
  }

  const RenderTask<MlpOperand<S>>& task_;
  const RenderRays& p_;
  RenderBuffers& b_;
  MlpOperand<S>* hidden_[kMaxHiddenLayers];
  int64_t block_, next_ray_;
  int n_slots_ = 0, n_samples_ = 0;
};

}  // namespace
}  // namespace nerfad
