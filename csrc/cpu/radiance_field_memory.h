// Where the fused radiance field's passes find their scratch memory.
#pragma once
#include "conditioned_mlp_sums.h"
#include "radiance_field_task.h"

namespace nerfad {
namespace {

// Samples whose gradients of features wait for the scatter at a time.
constexpr int64_t kFieldChunk = 1 << 16;
constexpr int64_t kTilesPerFieldTask = 16;

template <class T>
void zero_buffers(T* buffers, int64_t size, const ParallelFor& parallel_for) {
  std::memset(buffers, 0, sizeof(T) * static_cast<size_t>(size * parallel_for.n_threads()));
}

template <class T, class Operand>
struct FieldForwardMemory {
  Scratch<T> memory;
  NetForward<T, Operand> sigma, color;
  T* buffers;
  int64_t buffer_size;

  FieldForwardMemory(const RadianceFieldFwd<T>& p, T* start, int n_threads)
      : memory(start), sigma(p.sigma_net(), memory), color(p.color_net(), memory) {
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
  NetGradients<T, Operand> sigma, color;
  int32_t *samples, *block_counts;  // samples with a gradient, and how many each block of them has
  T *positions, *grad_features, *grad_positions, *grid, *buffers;
  int64_t buffer_size;

  FieldBackwardMemory(const RadianceFieldBwd<T>& b, T* start, int n_threads)
      : memory(start),
        chunk(b.fwd.n < kFieldChunk ? b.fwd.n : kFieldChunk),
        n_tasks(split_backward(chunk, kTilesPerFieldTask).n_tasks),
        sigma(b.fwd.sigma_net(), n_tasks, memory),
        color(b.fwd.color_net(), n_tasks, memory) {
    const RadianceFieldFwd<T>& p = b.fwd;
    samples = memory.template take_as<int32_t>(p.n);
    block_counts = memory.template take_as<int32_t>(ceil_div(p.n, kFieldChunk) + 1);
    positions = memory.take(3 * chunk);
    grad_features = memory.take(p.sigma.d_in * chunk);
    grad_positions = memory.take(b.grad_positions ? 3 * chunk : 0);
    grid = memory.take(grid_encode_bwd_scratch(p.grid, chunk));
    buffer_size = field_buffers_size<FieldBackwardBuffers<T, Operand>>(p);
    buffers = memory.take(n_threads * buffer_size);
  }
};

}  // namespace
}  // namespace nerfad
