// The conditional radiance field integrated along rays in one pass that ends each ray where composite does:
// the networks never see the samples behind. The backward pass is that of the parts
// (nerfad/ops/render_samples.py).
#pragma once
#include "nerfad/composite.h"
#include "nerfad/radiance_field.h"

namespace nerfad {

template <class T>
struct RenderSamplesFwd {
  // Views and conditions belong to rays: views is [n_rays], cond_index [n_rays] or null, view_index null.
  // Densities and colours: in zero, out those of the samples before the stop; of kept features theirs alone.
  RadianceFieldFwd<T> field;
  CompositeFwd<T> integral;  // reads the field's sigmas and rgbs; weights: in zero
  int32_t* ray_indices;      // in zero, out [n] the ray of each sample
};

// Number of elements of scratch, which is the field's.
template <class T>
int64_t render_samples_fwd_scratch(const RenderSamplesFwd<T>& p, int n_threads);

template <class T>
void render_samples_fwd_cpu(const RenderSamplesFwd<T>& p, const ParallelFor& parallel_for);

}  // namespace nerfad
