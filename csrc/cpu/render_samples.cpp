#include "nerfad/render_samples.h"

#include <algorithm>
#include <atomic>
#include <new>

#include "radiance_field_kernels.h"
#include "radiance_field_memory.h"

namespace nerfad {

namespace {

// Rays that a thread has in flight, and so the samples of a round at most. Fewer samples than a tile holds
// cost as much as a whole one.
constexpr int kRaysInFlight = 4 * kMlpTile;
constexpr int kRayBlock = 64;  // rays that a thread takes at a time

template <class T>
struct RayInFlight {
  int64_t ray, next, end;  // samples
  int n_taken;             // in this round
  CompositeSum<T> sum;
};

// A thread's rays in flight, and the samples of a round as a field of their own. The memory of kept features
// is behind it.
template <class T>
struct RenderRound {
  RayInFlight<T> rays[kRaysInFlight];
  T positions[3 * kRaysInFlight], sigmas[kRaysInFlight], rgbs[3 * kRaysInFlight];
  int32_t conditions[kRaysInFlight], views[kRaysInFlight];
};

// Elements of one, without features.
template <class T>
constexpr int64_t round_size() {
  return aligned_count((sizeof(RenderRound<T>) + sizeof(T) - 1) / sizeof(T));
}

// Each round evaluates the next sample of every ray in flight, then lets new rays in where others have ended.
// A sample's result does not depend on what it shares a tile with: threads may take blocks of rays as they
// become free.
template <class T, class Operand>
class SampleRenderer {
 public:
  SampleRenderer(const FieldKernels<T, Operand>& kernels, const FieldForwardTask<T, Operand>& task,
                 const RenderSamplesFwd<T>& p, RenderRound<T>& round, std::atomic<int64_t>& next_block)
      : kernels_(kernels), task_(task), p_(p), round_(round), next_block_(next_block), field_(p.field) {
    field_.positions = round.positions;
    field_.sigmas = round.sigmas;
    field_.rgbs = round.rgbs;
    field_.cond_index = p.field.cond_index ? round.conditions : nullptr;
    field_.view_index = round.views;
    T* const features = reinterpret_cast<T*>(&round) + round_size<T>();
    if (p.field.features) field_.features = features;
    if (p.field.rounded_features) field_.rounded_features = reinterpret_cast<BFloat16*>(features);
    task_.p = &field_;
  }

  void run() {
    for (;;) {
      admit();
      if (n_rays_ == 0) return;
      take_samples();
      kernels_.forward(task_);
      integrate();
    }
  }

 private:
  // The next ray, or -1.
  int64_t pull() {
    if (next_ray_ == block_end_) {
      next_ray_ = next_block_.fetch_add(1) * kRayBlock;
      block_end_ = next_ray_ + kRayBlock;
      const int64_t n_rays = p_.integral.n_rays;
      if (next_ray_ > n_rays) next_ray_ = n_rays;
      if (block_end_ > n_rays) block_end_ = n_rays;
    }
    return next_ray_ < block_end_ ? next_ray_++ : -1;
  }

  void admit() {
    while (n_rays_ < kRaysInFlight) {
      const int64_t ray = pull();
      if (ray < 0) return;
      const int64_t begin = p_.integral.packed_info[2 * ray], n = p_.integral.packed_info[2 * ray + 1];
      std::fill(p_.ray_indices + begin, p_.ray_indices + begin + n, static_cast<int32_t>(ray));
      RayInFlight<T>& r = round_.rays[n_rays_];
      r = {ray, begin, begin + n, 0, {}};
      if (ended(r)) {
        composite_finish(p_.integral, ray, r.sum);
      } else {
        ++n_rays_;
      }
    }
  }

  bool ended(const RayInFlight<T>& r) const {
    return r.next == r.end || composite_stop(p_.integral, r.sum.transmittance);
  }

  // One sample of each ray; of the last few rays as many as fill a tile, though some may lie behind the stop.
  void take_samples() {
    const int at_most = n_rays_ < kMlpTile ? kMlpTile / n_rays_ : 1;
    int n = 0;
    for (int k = 0; k < n_rays_; ++k) {
      RayInFlight<T>& r = round_.rays[k];
      r.n_taken = r.end - r.next < at_most ? static_cast<int>(r.end - r.next) : at_most;
      std::copy(p_.field.positions + 3 * r.next, p_.field.positions + 3 * (r.next + r.n_taken),
                round_.positions + 3 * n);
      std::fill(round_.views + n, round_.views + n + r.n_taken, static_cast<int32_t>(r.ray));
      if (p_.field.cond_index) {
        std::fill(round_.conditions + n, round_.conditions + n + r.n_taken, p_.field.cond_index[r.ray]);
      }
      n += r.n_taken;
    }
    task_.end = n;
  }

  // Adds the samples to their rays, and closes the gaps that finished rays leave.
  void integrate() {
    int kept = 0, n = 0;
    for (int k = 0; k < n_rays_; ++k) {
      RayInFlight<T> r = round_.rays[k];
      const int64_t first = r.next;
      for (; r.next < first + r.n_taken && !ended(r); ++r.next) {
        const int from = n + static_cast<int>(r.next - first);
        p_.field.sigmas[r.next] = round_.sigmas[from];
        for (int c = 0; c < 3; ++c) p_.field.rgbs[3 * r.next + c] = round_.rgbs[3 * from + c];
        keep_row(field_.features, from, p_.field.features, r.next);
        keep_row(field_.rounded_features, from, p_.field.rounded_features, r.next);
        composite_add(p_.integral, r.next, r.sum);
      }
      n += r.n_taken;
      if (ended(r)) {
        composite_finish(p_.integral, r.ray, r.sum);
      } else {
        round_.rays[kept++] = r;
      }
    }
    n_rays_ = kept;
  }

  // The features of a sample, if they are kept.
  template <class Kept>
  void keep_row(const Kept* from, int64_t row, Kept* to, int64_t sample) const {
    const int64_t width = p_.field.sigma.d_in;
    if (to) std::copy_n(from + row * width, width, to + sample * width);
  }

  const FieldKernels<T, Operand>& kernels_;
  FieldForwardTask<T, Operand> task_;
  const RenderSamplesFwd<T>& p_;
  RenderRound<T>& round_;
  std::atomic<int64_t>& next_block_;
  RadianceFieldFwd<T> field_;  // of a round
  int64_t next_ray_ = 0, block_end_ = 0;
  int n_rays_ = 0;
};

template <class T, class Operand>
struct RenderSamplesMemory {
  FieldForwardMemory<T, Operand> field;
  T* rounds;
  int64_t round_size;

  RenderSamplesMemory(const RadianceFieldFwd<T>& p, T* start, int n_threads) : field(p, start, n_threads, 0) {
    const int64_t n_kept = keeps_features(p) ? int64_t{kRaysInFlight} * mlp_padded(p.sigma.d_in) : 0;
    round_size = nerfad::round_size<T>() + aligned_count(n_kept);
    rounds = field.memory.take(n_threads * round_size);
  }
};

template <class T, class Operand>
void forward(const FieldKernels<T, Operand>& k, const RenderSamplesFwd<T>& p,
             const ParallelFor& parallel_for) {
  const RenderSamplesMemory<T, Operand> m(p.field, p.field.scratch, parallel_for.n_threads());
  const FieldForwardTask<T, Operand> all = m.field.prepare(k, p.field, parallel_for);
  std::atomic<int64_t> next_block{0};
  parallel_for(parallel_for.n_threads(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot) {
      FieldForwardTask<T, Operand> task = all;
      task.scratch = m.field.buffers + slot * m.field.buffer_size;
      auto* round = new (m.rounds + slot * m.round_size) RenderRound<T>;
      SampleRenderer<T, Operand>(k, task, p, *round, next_block).run();
    }
  });
}

template <class T, class Operand>
int64_t scratch(const FieldKernels<T, Operand>&, const RenderSamplesFwd<T>& p, int n_threads) {
  return RenderSamplesMemory<T, Operand>(p.field, nullptr, n_threads).field.memory.needed();
}

}  // namespace

template <class T>
int64_t render_samples_fwd_scratch(const RenderSamplesFwd<T>& p, int n_threads) {
  return with_field_kernels<T>(p.field.precision, [&](const auto& k) { return scratch(k, p, n_threads); });
}

template <class T>
void render_samples_fwd_cpu(const RenderSamplesFwd<T>& p, const ParallelFor& parallel_for) {
  with_field_kernels<T>(p.field.precision, [&](const auto& k) { forward(k, p, parallel_for); });
}

#define NERFAD_INSTANTIATE(T)                                                   \
  template int64_t render_samples_fwd_scratch(const RenderSamplesFwd<T>&, int); \
  template void render_samples_fwd_cpu(const RenderSamplesFwd<T>&, const ParallelFor&);
NERFAD_INSTANTIATE(float)
NERFAD_INSTANTIATE(double)

}  // namespace nerfad
