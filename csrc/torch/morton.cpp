#include "nerfad/morton.h"

#include <torch/csrc/stable/library.h>

#include "check.h"
#include "dispatch.h"

namespace nerfad {

namespace {

Tensor morton_encode(const Tensor& coords) {
  const char* op = "morton_encode";
  Check(op, coords).shape(coords, "coords", {kAny, 3}).dtype(coords, "coords", ScalarType::Int);
  Tensor codes = torch::stable::new_empty(coords, {coords.size(0)});
  const MortonEncode p{coords.const_data_ptr<int32_t>(), codes.mutable_data_ptr<int32_t>(), coords.size(0)};
  dispatch(op, op, p, coords, &morton_encode_cpu);
  return codes;
}

Tensor morton_decode(const Tensor& codes) {
  const char* op = "morton_decode";
  Check(op, codes).shape(codes, "codes", {kAny}).dtype(codes, "codes", ScalarType::Int);
  Tensor coords = torch::stable::new_empty(codes, {codes.size(0), 3});
  const MortonDecode p{codes.const_data_ptr<int32_t>(), coords.mutable_data_ptr<int32_t>(), codes.size(0)};
  dispatch(op, op, p, codes, &morton_decode_cpu);
  return coords;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def("morton_encode(Tensor coords) -> Tensor");
  m.def("morton_decode(Tensor codes) -> Tensor");
}

NERFAD_IMPL_CPU_AND_CUDA(m) {
  m.impl("morton_encode", TORCH_BOX(&morton_encode));
  m.impl("morton_decode", TORCH_BOX(&morton_decode));
}

}  // namespace nerfad
