// The fused renderer for one instruction set: kRenderSlots rays are in flight; each round takes their next
// samples, evaluates them together, and lets new rays in where one has come to its end.
#pragma once
#include "conditioned_mlp_tiles.h"
#include "render_cache.h"
#include "render_rays_task.h"

namespace nerfad {
namespace {

// The view's share is computed by Exact, which does not round, whatever S does.
template <class S, class Encode, class Exact>
class Renderer {
  using A = MlpArithmetic<S>;

 public:
  explicit Renderer(const RenderTask<MlpOperand<S>>& task)
      : task_(task),
        p_(*task.p),
        b_(*task.buffers),
        slots_(b_.slots),
        samples_(b_.samples),
        cached_(p_.samples.packed_info) {
    for (int l = 0; l < kMaxHiddenLayers; ++l) hidden_[l] = operands(b_.layers[l % 2]);
  }

  void run() {
    [[maybe_unused]] const typename A::Scope scope;
    while (n_slots_ < kRenderSlots && admit(n_slots_)) ++n_slots_;
    while (n_slots_ > 0) {
      take_samples();
      if (cached_) {
        evaluate<A::kTile>();
      } else {
        Encode::run(p_, b_, n_samples_);
        evaluate<kMlpTile>();
      }
      integrate();
      go_on();
      retire();
    }
  }

 private:
  static MlpOperand<S>* operands(float* memory) { return reinterpret_cast<MlpOperand<S>*>(memory); }

  // ---- Rays come and go.

  // Puts the next ray that has a sample into a slot; false if there is none.
  bool admit(int slot) {
    RenderQueue& queue = b_.queue;
    while (queue.next == queue.size) {
      if (!refill()) return false;
    }
    const int k = queue.next++;
    slots_.march.take(slot, queue.march, k);
    slots_.ray[slot] = queue.first_ray + queue.which[k];
    slots_.set_sum(slot, render_begin());
    slots_.left[slot] = p_.max_samples_per_ray;
    slots_.going[slot] = 1;
    const int width = mlp_padded(p_.color.d_hidden);
    std::copy_n(b_.queued_bias + k * width, width, b_.view_bias + slot * width);
    return true;
  }

  // Queues those of the next block of rays that have a sample. All are written as if they had none: the
  // others show the background.
  bool refill() {
    RenderQueue& queue = b_.queue;
    const int64_t n_rays = p_.rays.n_rays, first = task_.next_block->fetch_add(1) * kMarchStartBlock;
    if (first >= n_rays) return false;
    const int n = static_cast<int>(std::min<int64_t>(kMarchStartBlock, n_rays - first));
    for (int64_t ray = first; ray < first + n; ++ray) render_finish(p_, ray, render_begin());
    queue.first_ray = first;
    queue.next = queue.size = 0;
    if (p_.max_samples_per_ray <= 0) return true;
    queue.size = cached_ ? start_cached(p_, first, n, queue.march, queue.which)
                         : task_.march.start_slots(task_.rays, first, n, queue.march, queue.which);
    view_biases();
    return true;
  }

  // W_view sh(d) + b for the queued rays: the colour network's first bias for all samples of a ray.
  void view_biases() {
    RenderQueue& queue = b_.queue;
    for (int k = 0; k < queue.size; ++k) render_view(p_, queue.first_ray + queue.which[k], queue.view[k]);
    const int width = mlp_padded(p_.color.d_hidden);
    const LayerOf<Exact> layer{task_.color.exact_weights(0) + p_.n_code() * width,
                               task_.color.bias(0),
                               nullptr,
                               nullptr,
                               kViewCoefficients,
                               width};
    for (int k = 0; k < queue.size; k += kMlpTile) {
      layer_tile<Exact, Finish::kNone>(layer, queue.view[k], kViewCoefficients, b_.queued_bias + k * width,
                                       width);
    }
  }

  // Writes finished rays; waiting ones, or else the last ones in flight, take their slots.
  void retire() {
    const int width = mlp_padded(p_.color.d_hidden);
    for (int s = 0; s < n_slots_; ++s) {
      while (!slots_.going[s]) {
        render_finish(p_, slots_.ray[s], slots_.sum(s));
        if (admit(s)) break;
        if (s == --n_slots_) break;
        slots_.move(n_slots_, s);
        std::copy_n(b_.view_bias + n_slots_ * width, width, b_.view_bias + s * width);
      }
    }
  }

  // ---- A round.

  // Moves the slots that go on to their next samples.
  void next_in_slots() {
    for (int s = 0; s < n_slots_; ++s) slots_.going[s] &= -(slots_.left[s] > 0);
    if (cached_) {
      next_cached(p_, slots_.march, n_slots_, slots_.going);
    } else {
      task_.march.next_in_slots(task_.rays.grid, slots_.march, n_slots_, slots_.going);
    }
  }

  // While rays wait, one sample of each in flight; at the end, as many as fill the tiles. Sample k of slot s
  // is number k * n_slots_ + s. A ray that has come to its end repeats its last one, which is not counted.
  void take_samples() {
    const int take = kRenderSlots / n_slots_;
    n_samples_ = take * n_slots_;
    for (int s = 0; s < n_slots_; ++s) slots_.taken[s] = 0;
    for (int k = 0; k < take; ++k) {
      if (k > 0) next_in_slots();
      for (int s = 0; s < n_slots_; ++s) {
        slots_.taken[s] += slots_.going[s];
        slots_.left[s] -= slots_.going[s];
      }
      copy_samples(k * n_slots_);
    }
    std::fill(samples_.slot + n_samples_, samples_.slot + kRenderSlots, 0);
    std::fill(samples_.cached + n_samples_, samples_.cached + kRenderSlots, samples_.cached[0]);
  }

  // The samples at which the slots stand, from `first` on.
  void copy_samples(int first) {
    const MarchSlots& march = slots_.march;
    std::copy_n(march.t_start, n_slots_, samples_.t_start + first);
    std::copy_n(march.t_end, n_slots_, samples_.t_end + first);
    for (int s = 0; s < n_slots_; ++s) samples_.slot[first + s] = s;
    if (cached_) {
      std::copy_n(march.step, n_slots_, samples_.cached + first);
      return;
    }
    for (int a = 0; a < 3; ++a) {
      for (int s = 0; s < n_slots_; ++s) {
        samples_.axes[a][first + s] =
            render_position(march.base[a][s], march.slope[a][s], task_.rays.grid.resolution,
                            {march.t_start[s], march.t_end[s]});
      }
    }
  }

  // Asks for the samples behind some of the round's.
  void prefetch_next(int first, int end) {
    for (int i = first; i < std::min(end, n_samples_); ++i) prefetch_cached(p_, samples_.cached[i] + 1);
  }

  // Runs both networks on the round's samples, kRows at a time. Few, where samples are encoded: the tile's
  // layers would drive from the L1 cache what the encoder comes back to. A constant, so that the loops over a
  // tile need not end anywhere else.
  template <int kRows>
  void evaluate() {
    for (int first = 0; first < n_samples_; first += kRows) evaluate_tile<kRows>(first);
  }

  template <int kRows>
  void evaluate_tile(int first) {
    const int n_features = p_.sigma.d_in, code_stride = mlp_padded(p_.sigma.d_out);
    const int rgb_stride = mlp_padded(p_.color.d_out);
    MlpOperand<S>* const inputs = operands(b_.layers[2]);
    const MlpOperands<S> features =
        cached_ ? cached_operands<S>(p_, samples_.cached + first, kRows, inputs)
                : tile_operands<S>(b_.features + first * n_features, n_features, kRows, n_features,
                                   Padding::kUnread, inputs, kRows);
    if (cached_) prefetch_next(first, first + kRows / 2);
    mlp_forward_tile<S>(task_.sigma, {task_.sigma.folded(), nullptr, n_features}, features.data,
                        features.stride, hidden_, b_.code, code_stride, kRows);
    if (cached_) prefetch_next(first + kRows / 2, first + kRows);
    const MlpOperands<S> code =
        tile_operands<S>(b_.code + 1, code_stride, kRows, p_.n_code(), Padding::kUnread, inputs, kRows);
    mlp_forward_tile<S>(task_.color, {b_.view_bias, samples_.slot + first, p_.n_code()}, code.data,
                        code.stride, hidden_, b_.rgb, rgb_stride, kRows);
    for (int m = 0; m < kRows; ++m) samples_.keep[first + m] = b_.code[m * code_stride];
    for (int c = 0; c < 3; ++c) {
      for (int m = 0; m < kRows; ++m) samples_.rgb[c][first + m] = b_.rgb[m * rgb_stride + c];
    }
  }

  // keep = exp(-sigma * length), sigma = exp(clamp(h_0 + bias)).
  void densities_to_keep() {
    for (int i = 0; i < n_samples_; ++i) {
      const float h = samples_.keep[i] + p_.density_bias;
      samples_.keep[i] =
          h < -kLogDensityLimit ? -kLogDensityLimit : (h > kLogDensityLimit ? kLogDensityLimit : h);
    }
    exp_in_place<S>(samples_.keep, n_samples_);
    for (int i = 0; i < n_samples_; ++i) samples_.keep[i] *= samples_.t_start[i] - samples_.t_end[i];
    exp_in_place<S>(samples_.keep, n_samples_);
  }

  // Adds the round's samples to their rays, in order, as far as the early stop.
  void integrate() {
    densities_to_keep();
    if (p_.color.sigmoid) {
      for (float* channel : samples_.rgb) sigmoid_in_place<S>(channel, n_samples_);
    }
    const int take = n_samples_ / n_slots_;
    for (int k = 0; k < take; ++k) {
      const int first = k * n_slots_;
      for (int s = 0; s < n_slots_; ++s) {
        // A sample that does not count lets all light through and is black: a select for each value, so that
        // the loop is one of vectors.
        const bool counts = (k < slots_.taken[s]) & !(slots_.transmittance[s] < p_.early_stop_eps);
        const float keep = samples_.keep[first + s], red = samples_.rgb[0][first + s],
                    green = samples_.rgb[1][first + s], blue = samples_.rgb[2][first + s];
        const float rgb[3] = {counts ? red : 0.0f, counts ? green : 0.0f, counts ? blue : 0.0f};
        RenderSum sum = slots_.sum(s);
        render_add(sum, counts ? keep : 1.0f, {samples_.t_start[first + s], samples_.t_end[first + s]}, rgb);
        slots_.set_sum(s, sum);
      }
    }
  }

  // To the next samples of the rays that have not been stopped.
  void go_on() {
    for (int s = 0; s < n_slots_; ++s) {
      slots_.going[s] &= -!(slots_.transmittance[s] < p_.early_stop_eps);
    }
    next_in_slots();
  }

  const RenderTask<MlpOperand<S>>& task_;
  const RenderRays& p_;
  RenderBuffers& b_;
  RenderSlots& slots_;
  RenderSamplesOfRound& samples_;
  const bool cached_;
  MlpOperand<S>* hidden_[kMaxHiddenLayers];
  int n_slots_ = 0, n_samples_ = 0;
};

}  // namespace
}  // namespace nerfad
