#include "dispatch.h"

#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdlib>
#include <optional>
#include <string>

#include "nerfad/isa.h"

namespace nerfad {

namespace {

std::atomic<bool> g_emulating{false};

std::string library_folder() {
  Dl_info info{};
  dladdr(reinterpret_cast<void*>(&library_folder), &info);
  const std::string path(info.dli_fname);
  return path.substr(0, path.find_last_of('/') + 1);
}

void* open_library(const char* file, const char* override_variable, const char* remedy) {
  const char* override_path = std::getenv(override_variable);
  const std::string path = override_path ? override_path : library_folder() + file;
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  require(handle != nullptr, "nerfad: cannot open ", path, " (", dlerror(), "); ", remedy);
  return handle;
}

void* cuda_library() {
  static void* handle =
      open_library("libnerfad_cuda.so", "NERFAD_CUDA_LIBRARY",
                   "rebuild nerfad with nvcc on PATH and NERFAD_CUDA=1, or move the tensors to the CPU");
  return handle;
}

void* emulator_library() {
  static void* handle =
      open_library("libnerfad_emu.so", "NERFAD_EMU_LIBRARY", "rebuild nerfad with NERFAD_EMU=1 (tests only)");
  return handle;
}

// Only in libtorch_cuda.so: looked up at run time, so that one binary serves torch with and without CUDA.
void* current_cuda_stream(int32_t device) {
  using GetStream = AOTITorchError (*)(int32_t, void**);
  static const GetStream get = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    return library ? reinterpret_cast<GetStream>(dlsym(library, "aoti_torch_get_current_cuda_stream"))
                   : nullptr;
  }();
  require(get != nullptr,
          "nerfad: this torch was built without CUDA; install a CUDA build or use CPU tensors");
  void* stream = nullptr;
  require(get(device, &stream) == 0, "nerfad: cannot get the current CUDA stream");
  return stream;
}

void run_on_torch_pool(void*, int64_t n, int64_t grain, ParallelFor::Body body, void* arg) {
  torch::stable::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) { body(arg, begin, end); });
}

}  // namespace

bool emulating() { return g_emulating.load(std::memory_order_relaxed); }

ParallelFor torch_pool() {
  return ParallelFor(run_on_torch_pool, nullptr, static_cast<int>(torch::stable::get_num_threads()));
}

void* cuda_symbol(const char* name, const Tensor& on) {
  void* library = on.is_cuda() ? cuda_library() : emulator_library();
  const std::string symbol_name = std::string("nerfad_cuda_") + name;
  void* symbol = dlsym(library, symbol_name.c_str());
  require(symbol != nullptr, "nerfad: the CUDA library has no ", symbol_name,
          "; it is of another version, rebuild nerfad");
  return symbol;
}

void run_cuda(const char* op, void* symbol, const void* params, const Tensor& on) {
  std::optional<torch::stable::accelerator::DeviceGuard> guard;
  void* stream = nullptr;
  if (on.is_cuda()) {
    guard.emplace(on.get_device_index());
    stream = current_cuda_stream(on.get_device_index());
  }
  const int code = reinterpret_cast<int (*)(const void*, void*)>(symbol)(params, stream);
  if (code != 0) {
    auto text = reinterpret_cast<const char* (*)(int)>(cuda_symbol("error_string", on));
    refuse(op, ": CUDA error ", code, ": ", text(code));
  }
}

namespace {

void set_emulation(bool on) {
  if (on) emulator_library();
  g_emulating = on;
}
int64_t get_isa() { return static_cast<int64_t>(current_isa()); }
int64_t get_detected_isa() { return static_cast<int64_t>(detected_isa()); }
void choose_isa(int64_t isa) { set_isa(static_cast<Isa>(isa)); }
bool get_gathers() { return gathers(); }
void choose_gathers(bool on) { set_gathers(on); }

// -1: no kernel library; else 10 * cudaError + number of devices
int64_t cuda_status() {
  const std::string path = library_folder() + "libnerfad_cuda.so";
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) return -1;
  auto count = reinterpret_cast<int (*)(int*)>(dlsym(handle, "nerfad_cuda_device_count"));
  int n = 0;
  const int code = count(&n);
  return 10 * code + n;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def("_set_emulation(bool on) -> ()");
  m.def("_cuda_status() -> int");
  m.def("_isa() -> int");
  m.def("_detected_isa() -> int");
  m.def("_set_isa(int isa) -> ()");
  m.def("_gathers() -> bool");
  m.def("_set_gathers(bool on) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(nerfad, CompositeExplicitAutograd, m) {
  m.impl("_set_emulation", TORCH_BOX(&set_emulation));
  m.impl("_cuda_status", TORCH_BOX(&cuda_status));
  m.impl("_isa", TORCH_BOX(&get_isa));
  m.impl("_detected_isa", TORCH_BOX(&get_detected_isa));
  m.impl("_set_isa", TORCH_BOX(&choose_isa));
  m.impl("_gathers", TORCH_BOX(&get_gathers));
  m.impl("_set_gathers", TORCH_BOX(&choose_gathers));
}

}  // namespace nerfad
