// How a binding refuses: the sentence alone. STD_TORCH_CHECK puts the function and the path of our source
// before it, which says nothing to whoever passed a wrong tensor.
#pragma once
#include <sstream>
#include <stdexcept>

namespace nerfad {

template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  std::ostringstream sentence;
  (sentence << ... << parts);
  throw std::runtime_error(sentence.str());
}

template <class... Parts>
void require(bool ok, const Parts&... parts) {
  if (!ok) refuse(parts...);
}

}  // namespace nerfad
