// Where the fused radiance field's passes find their scratch memory.
#pragma once
#include "conditioned_mlp_sums.h"
#include "grid_encode_scratch.h"
#include "radiance_field_task.h"

namespace nerfad {
namespace {

// Samples whose features, or their gradients, are in memory at a time.
constexpr int64_t kFieldChunk = 1 << 16;
constexpr int64_t kTilesPerFieldTask = 32;
constexpr int64_t kListBlock = 4096;            // samples that are listed at a time
constexpr int64_t kForwardTask = 4 * kMlpTile;  // samples, where the features are there

template <class T>
bool keeps_features(const RadianceFieldFwd<T>& p) {
  return p.features || p.rounded_features;
}

// Many samples are encoded before the networks see any: a level's entries are then read into the cache once
// for all of them, where groups would read the whole table, which is larger than the cache, again and again.
// How many samples that is at a time; 0 if a task had better encode its own. Features that are kept always
// come first.
template <class T>
int64_t n_encoded_first(const RadianceFieldFwd<T>& p, int64_t n) {
  if (!keeps_features(p) && (n <= kFieldGroup || p.sigma.d_in % kMlpPad != 0)) return 0;
  return n < kFieldChunk ? n : kFieldChunk;
}

// The features of so many samples.
template <class T>
struct FieldFeatures {
  T* features = nullptr;  // or null if there are none
  T* scratch = nullptr;

  FieldFeatures(const RadianceFieldFwd<T>& p, int64_t n, Scratch<T>& memory)
      : FieldFeatures(p, n, memory, n ? memory.take(grid_encode_fwd_scratch(p.grid, n)) : nullptr) {}
  // With the scratch of the grid's backward pass, which finds the positions in it as it wants them.
  FieldFeatures(const RadianceFieldFwd<T>& p, int64_t n, Scratch<T>& memory, T* grid_scratch) {
    if (n == 0) return;
    features = memory.take(n * p.sigma.d_in);
    scratch = grid_scratch;
  }

  // To `rows`, or to the levels in the scratch if that is null.
  template <class Operand>
  FeatureSource<T, Operand> encode(const RadianceFieldFwd<T>& p, const T* positions, int64_t n, T* rows,
                                   const ParallelFor& parallel_for) const {
    static_assert(kFieldChunk <= kGridChunk);  // all levels are in the scratch at once
    const GridEncodeFwd<T> grid{positions, p.table, rows, scratch, n, p.table_type, p.grid};
    grid_encode_fwd_cpu(grid, parallel_for);
    if (rows) return {rows, nullptr, nullptr, 0};
    const GridScratch layout = grid_scratch(p.grid, n);
    return {nullptr, nullptr, scratch + layout.features, layout.level_stride};
  }
};

template <class T>
void zero_buffers(T* buffers, int64_t size, const ParallelFor& parallel_for) {
  std::memset(buffers, 0, sizeof(T) * static_cast<size_t>(size * parallel_for.n_threads()));
}

template <class T, class Operand>
struct FieldForwardMemory {
  Scratch<T> memory;
  NetForward<T, Operand> sigma, color;
  int64_t n_encoded;  // samples at a time; 0: tasks encode their own
  FieldFeatures<T> encoded;
  T* buffers;
  int64_t buffer_size;

  FieldForwardMemory(const RadianceFieldFwd<T>& p, T* start, int n_threads, int64_t n_encoded)
      : memory(start),
        sigma(p.sigma_net(), memory),
        color(p.color_net(), memory),
        n_encoded(n_encoded),
        encoded(p, n_encoded, memory) {
    buffer_size = field_buffers_size<FieldForwardBuffers<T, Operand>>(p);
    buffers = memory.take(n_threads * buffer_size);
  }

  // A task without samples and scratch: the networks packed, all conditions and views folded.
  FieldForwardTask<T, Operand> prepare(const FieldKernels<T, Operand>& k, const RadianceFieldFwd<T>& p,
                                       const ParallelFor& parallel_for) const {
    FieldForwardTask<T, Operand> task{};
    task.p = &p;
    task.sigma = pack_and_fold(k, sigma, parallel_for);
    task.color = pack_and_fold(k, color, parallel_for);
    zero_buffers(buffers, buffer_size, parallel_for);
    return task;
  }
};

template <class T, class Operand>
struct FieldBackwardMemory {
  Scratch<T> memory;
  int64_t chunk, n_tasks;  // samples at a time, and tasks for them, at most
  T* grid;                 // the grid's scratch
  NetGradients<T, Operand> sigma, color;
  int32_t *samples, *block_counts;  // samples with a gradient, and how many each block of them has
  FieldFeatures<T> encoded;
  bool splits;  // tasks leave the gradients of features level by level in the grid's scratch
  T *positions, *grad_features, *grad_positions, *buffers;
  int64_t buffer_size;

  FieldBackwardMemory(const FieldKernels<T, Operand>& k, const RadianceFieldBwd<T>& b, T* start,
                      int n_threads)
      : memory(start),
        chunk(b.fwd.n < kFieldChunk ? b.fwd.n : kFieldChunk),
        n_tasks(max_backward_tasks(chunk, kTilesPerFieldTask)),
        grid(memory.take(grid_encode_bwd_scratch(b.fwd.grid, chunk))),
        sigma(b.fwd.sigma_net(), n_tasks, memory),
        color(b.fwd.color_net(), n_tasks, memory),
        encoded(b.fwd, n_encoded_first(b.fwd, chunk), memory, grid),
        splits(k.splits && n_encoded_first(b.fwd, chunk) > 0) {
    const RadianceFieldFwd<T>& p = b.fwd;
    samples = memory.template take_as<int32_t>(p.n);
    block_counts = memory.template take_as<int32_t>(ceil_div(p.n, kListBlock) + 1);
    positions = memory.take(3 * chunk);
    grad_features = memory.take(splits ? 0 : p.sigma.d_in * chunk);
    grad_positions = memory.take(b.grad_positions ? 3 * chunk : 0);
    buffer_size = field_buffers_size<FieldBackwardBuffers<T, Operand>>(p);
    buffers = memory.take(n_threads * buffer_size);
  }
};

}  // namespace
}  // namespace nerfad
