// nerfad._runtime: what needs no torch. Arrays come from NumPy; nerfad/runtime/__init__.py is its face and
// the place where files are read.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <stdexcept>
#include <string>

#include "avatar.h"
#include "nerfad/isa.h"
#include "nerfad/render_rays_fused.h"

namespace py = pybind11;

namespace nerfad {

namespace {

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

void require(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument("runtime: " + message);
}

std::vector<float> to_floats(const py::dict& arrays, const char* name, int64_t expected) {
  const auto array = py::cast<Floats>(arrays[name]);
  require(array.size() == expected, std::string(name) + " must have " + std::to_string(expected) +
                                        " elements, got " + std::to_string(array.size()));
  return std::vector<float>(array.data(), array.data() + array.size());
}

// The bytes of an array, in memory aligned for any element.
std::vector<uint64_t> to_words(const py::array& array) {
  require(array.flags() & py::array::c_style, "arrays must be contiguous");
  std::vector<uint64_t> words(static_cast<size_t>((array.nbytes() + 7) / 8));
  std::memcpy(words.data(), array.data(), static_cast<size_t>(array.nbytes()));
  return words;
}

// numbers: d_in, d_cond, d_hidden, n_hidden, d_out, sigmoid.
Network to_network(const py::dict& arrays, const char* name, const std::vector<int>& numbers) {
  require(numbers.size() == 6 && numbers[0] >= 1 && numbers[1] >= 0 && numbers[2] >= 16 &&
              numbers[2] <= 128 && numbers[3] >= 1 && numbers[3] <= 16 && numbers[4] >= 1,
          std::string(name) + " has an impossible shape");
  const MlpShape shape{numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5] != 0};
  return {shape, to_floats(arrays, name, shape.n_params())};
}

// numbers: dimensions, resolutions of the levels, log2 of the table size, kind, smoothstep.
Grid to_grid(const py::dict& arrays, const char* name, const std::vector<int64_t>& numbers) {
  const auto table = py::cast<py::array>(arrays[name]);
  const int n_levels = static_cast<int>(numbers.size()) - 4;
  require(n_levels >= 1 && n_levels <= kMaxGridLevels && table.ndim() == 2,
          std::string(name) + " is no grid");
  const bool half = table.dtype().is(py::dtype("float16"));
  require(half || table.dtype().is(py::dtype::of<float>()),
          std::string(name) + " must be float32 or float16");
  const GridShape shape =
      make_grid_shape(static_cast<int>(numbers[0]), static_cast<int>(table.shape(1)), numbers.data() + 1,
                      n_levels, static_cast<int>(numbers[n_levels + 1]),
                      static_cast<GridKind>(numbers[n_levels + 2]), numbers[n_levels + 3] != 0);
  require(table.shape(0) == shape.n_entries(), std::string(name) + " has the wrong number of entries");
  return {shape, half ? TableType::kFloat16 : TableType::kFloat32, to_words(table)};
}

HeadField to_head(const py::dict& arrays, const py::dict& s) {
  HeadField head{to_grid(arrays, "head.table", py::cast<std::vector<int64_t>>(s["grid"])),
                 to_network(arrays, "head.sigma", py::cast<std::vector<int>>(s["sigma"])),
                 to_network(arrays, "head.color", py::cast<std::vector<int>>(s["color"])),
                 to_words(py::cast<py::array>(arrays["head.bitfield"])),
                 py::cast<int>(s["resolution"]),
                 py::cast<float>(s["step_size"]),
                 py::cast<float>(s["density_bias"]),
                 py::cast<int>(s["max_samples_per_ray"])};
  const int64_t cells = static_cast<int64_t>(head.resolution) * head.resolution * head.resolution;
  require(static_cast<int64_t>(head.bitfield.size()) == cells / 64, "head.bitfield has the wrong size");
  require(head.grid.shape.n_dims == 3 && head.sigma.shape.d_in == head.grid.shape.n_outputs() &&
              head.color.shape.d_in == head.sigma.shape.d_out - 1 + kViewCoefficients &&
              head.color.shape.d_out == 3 && head.color.shape.d_cond == 0,
          "the head's networks do not fit together");
  return head;
}

std::optional<TorsoLayer> to_torso(const py::dict& arrays, const py::object& settings) {
  if (settings.is_none()) return std::nullopt;
  const auto s = py::cast<py::dict>(settings);
  TorsoLayer torso{to_grid(arrays, "torso.table", py::cast<std::vector<int64_t>>(s["grid"])),
                   to_network(arrays, "torso.deformation", py::cast<std::vector<int>>(s["deformation"])),
                   to_network(arrays, "torso.picture", py::cast<std::vector<int>>(s["picture"])),
                   py::cast<int>(s["n_octaves"]), py::cast<float>(s["max_deformation"])};
  require(
      torso.grid.shape.n_dims == 2 && torso.picture.shape.d_in == torso.grid.shape.n_outputs() &&
          torso.picture.shape.d_out == 4 && torso.deformation.shape.d_in == 2 * (2 * torso.n_octaves + 1) &&
          torso.deformation.shape.d_out == 2 &&
          (torso.picture.shape.d_cond == 0 || torso.picture.shape.d_cond == torso.deformation.shape.d_cond),
      "the torso's networks do not fit together");
  return torso;
}

Avatar* make_avatar(const py::dict& arrays, const py::dict& settings, int n_threads) {
  const auto c = py::cast<py::dict>(settings["camera"]);
  const auto number = [&](const char* name) { return py::cast<float>(c[name]); };
  const PinholeCamera camera{number("fl_x"),
                             number("fl_y"),
                             number("cx"),
                             number("cy"),
                             number("pixel_offset"),
                             py::cast<int>(c["height"]),
                             py::cast<int>(c["width"])};
  require(camera.height >= 1 && camera.width >= 1, "the picture must have at least one pixel");
  return new Avatar(to_head(arrays, py::cast<py::dict>(settings["head"])),
                    to_torso(arrays, settings["torso"]), camera, n_threads);
}

py::array_t<uint8_t> render(Avatar& avatar, const std::array<float, 12>& c2w,
                            const std::array<float, 4>& body, const std::vector<float>& describe,
                            const std::vector<float>& cond, const Floats& background) {
  const int height = avatar.camera().height, width = avatar.camera().width;
  require(
      static_cast<int>(cond.size()) == avatar.n_cond(),
      "cond must have " + std::to_string(avatar.n_cond()) + " numbers, got " + std::to_string(cond.size()));
  require(!avatar.n_pose() || static_cast<int>(describe.size()) == avatar.n_pose(),
          "the pose must be described by " + std::to_string(avatar.n_pose()) + " numbers");
  require(background.ndim() == 3 && background.shape(0) == height && background.shape(1) == width &&
              background.shape(2) == 3,
          "background must have shape [" + std::to_string(height) + ", " + std::to_string(width) + ", 3]");
  py::array_t<uint8_t> image({height, width, 3});
  uint8_t* to = image.mutable_data();
  const float* behind = background.data();
  {
    py::gil_scoped_release release;
    avatar.render({c2w, body, describe}, cond, behind, to);
  }
  return image;
}

py::dict build_info() {
  py::dict info;
#if defined(__clang__)
  info["compiler"] = "clang " __clang_version__;
#else
  info["compiler"] = "gcc " __VERSION__;
#endif
  info["cxx_standard"] = static_cast<int>(__cplusplus / 100 % 100);
#if defined(__x86_64__)
  info["instruction_sets"] = std::vector<std::string>{"portable", "avx2", "avx512"};
#else
  info["instruction_sets"] = std::vector<std::string>{"portable"};
#endif
  return info;
}

py::dict cpu_features() {
  py::dict features;
  features["isa"] = isa_name(current_isa());
  features["best_isa"] = isa_name(detected_isa());
#if defined(__x86_64__)
  __builtin_cpu_init();
  features["avx2"] = __builtin_cpu_supports("avx2") != 0;
  features["avx512f"] = __builtin_cpu_supports("avx512f") != 0;
  features["avx512bf16"] = __builtin_cpu_supports("avx512bf16") != 0;
#endif
  features["threads"] = static_cast<int>(std::thread::hardware_concurrency());
  return features;
}

}  // namespace

}  // namespace nerfad

PYBIND11_MODULE(_runtime, m) {
  m.doc() = "The torch-free runtime of nerfad; use nerfad.runtime.";
  m.def("build_info", &nerfad::build_info);
  m.def("cpu_features", &nerfad::cpu_features);
  py::class_<nerfad::Avatar>(m, "Renderer")
      .def(py::init(&nerfad::make_avatar), py::arg("arrays"), py::arg("settings"), py::arg("n_threads"))
      .def("render", &nerfad::render, py::arg("c2w"), py::arg("body"), py::arg("describe"), py::arg("cond"),
           py::arg("background"))
      .def_property_readonly("n_cond", &nerfad::Avatar::n_cond)
      .def_property_readonly("n_threads", &nerfad::Avatar::n_threads);
}
