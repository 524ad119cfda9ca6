// Argument checks of the torch bindings. Each op checks here, once; messages name op, argument, expected and
// got.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <initializer_list>
#include <sstream>
#include <string>

#include "require.h"

namespace nerfad {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline const char* dtype_name(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Bool:
      return "bool";
    default:
      return "an unsupported dtype";
  }
}

constexpr int64_t kAny = -1;

inline std::string shape_text(const int64_t* sizes, size_t n) {
  std::ostringstream out;
  out << "[";
  for (size_t i = 0; i < n; ++i) {
    out << (i ? ", " : "");
    if (sizes[i] == kAny) {
      out << "*";
    } else {
      out << sizes[i];
    }
  }
  out << "]";
  return out.str();
}

class Check {
 public:
  // `reference` fixes the device (and, for floating arguments, the dtype) of all others.
  Check(const char* op, const Tensor& reference) : op_(op), reference_(reference) {}

  const Check& shape(const Tensor& t, const char* name, std::initializer_list<int64_t> expected) const {
    return sized(t, name, expected).placed(t, name, t.is_contiguous());
  }

  // A matrix whose rows may be further apart than they are long, unless it must be `dense`.
  const Check& rows(const Tensor& t, const char* name, std::initializer_list<int64_t> expected,
                    bool dense) const {
    sized(t, name, expected);
    const bool in_rows = (t.size(1) <= 1 || t.stride(1) == 1) &&
                         (t.size(0) <= 1 || (t.stride(0) >= t.size(1) && t.stride(0) < kLongestRow));
    return placed(t, name, t.is_contiguous() || (in_rows && !dense));
  }

  const Check& dtype(const Tensor& t, const char* name, ScalarType expected) const {
    require(t.scalar_type() == expected, op_, ": ", name, " must be ", dtype_name(expected), ", got ",
            dtype_name(t.scalar_type()));
    return *this;
  }

  const Check& same_dtype(const Tensor& t, const char* name) const {
    return dtype(t, name, reference_.scalar_type());
  }

  const Check& that(bool ok, const std::string& message) const {
    require(ok, op_, ": ", message);
    return *this;
  }

 private:
  static constexpr int64_t kLongestRow = int64_t{1} << 24;  // kernels index within tiles in 32 bits

  const Check& sized(const Tensor& t, const char* name, std::initializer_list<int64_t> expected) const {
    bool ok = t.dim() == static_cast<int64_t>(expected.size());
    int64_t axis = 0;
    for (int64_t e : expected) ok = ok && (e == kAny || t.size(axis) == e), ++axis;
    if (!ok) {
      int64_t got[8] = {};
      const int64_t dims = t.dim() < 8 ? t.dim() : 8;
      for (int64_t i = 0; i < dims; ++i) got[i] = t.size(i);
      refuse(op_, ": ", name, " must have shape ", shape_text(expected.begin(), expected.size()), ", got ",
             shape_text(got, static_cast<size_t>(dims)));
    }
    return *this;
  }

  const Check& placed(const Tensor& t, const char* name, bool lies_well) const {
    require(t.is_cuda() == reference_.is_cuda() && t.get_device_index() == reference_.get_device_index(), op_,
            ": ", name, " must be on the same device as the other arguments (no implicit copies)");
    require(lies_well, op_, ": ", name, " must be contiguous; call .contiguous() on it");
    return *this;
  }

  const char* op_;
  const Tensor& reference_;
};

inline void check_float_or_double(const char* op, const Tensor& t, const char* name) {
  require(t.scalar_type() == ScalarType::Float || t.scalar_type() == ScalarType::Double, op, ": ", name,
          " must be float32 (or float64 on the CPU), got ", dtype_name(t.scalar_type()));
}

}  // namespace nerfad
