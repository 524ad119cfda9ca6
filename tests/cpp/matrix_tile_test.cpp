// Proves the matrix-tile (AMX) code of the MLP without such hardware: the same templates run over a register
// file in plain C++, and must give what the portable bfloat16 code gives. Compiled for a machine that has
// AMX, the test runs over its registers and vectors too.
#include "emulated_tiles.h"  // first: it silences gcc 12 about its own intrinsics
#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
#include "../../csrc/cpu/amx_tiles.h"
#endif

#include <cmath>
#include <random>
#include <vector>

#include "../../csrc/cpu/radiance_field_tiles.h"
#include "check.h"
#include "nerfad/isa.h"

namespace nerfad {
namespace {

using Rounded = Bf16Rounded<PortableSimd<float>>;
using Emulated = MatrixTiles<PortablePairs, EmulatedTiles>;

std::vector<float> random_values(int64_t n, int seed, float scale) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(n);
  for (float& v : values) v = normal(generator);
  return values;
}

// 64-byte aligned scratch memory, filled with NaN: nothing may depend on what was there.
template <class E>
struct Memory {
  explicit Memory(int64_t n_elements)
      : data(n_elements * sizeof(E) / sizeof(float) + 2 * kScratchAlign, std::nanf("")) {}
  E* get() { return reinterpret_cast<E*>(align_scratch(data.data())); }
  std::vector<float> data;
};

struct Problem {
  MlpShape shape;
  int n_samples, n_cond;
  std::vector<float> x, params, cond, grad_out;
  std::vector<int32_t> index;

  Problem(const MlpShape& s, int n) : shape(s), n_samples(n), n_cond(3) {
    x = random_values(static_cast<int64_t>(n) * s.d_in, 1, 1.0f);
    params = random_values(s.n_params(), 2, 1.0f / std::sqrt(static_cast<float>(s.d_hidden)));
    cond = random_values(static_cast<int64_t>(n_cond) * (s.d_cond + 1), 3, 1.0f);
    grad_out = random_values(static_cast<int64_t>(n) * s.d_out, 4, 1.0f);
    for (int i = 0; i < n; ++i) index.push_back(i * n_cond / n);
  }
};

// A network packed under its conditions, and its sums.
template <class S>
struct Net {
  using Operand = MlpOperand<S>;
  Memory<float> packed, packed_grad;
  Memory<Operand> operands, grad_operands;
  std::vector<float> sums, folded;
  NetGradTask<float, Operand> task{};

  explicit Net(const ConditionedMlpFwd<float>& p)
      : packed(PackedMlp<float>{p.shape, nullptr}.forward_size(p.n_cond)),
        packed_grad(PackedMlpGrad<float>{p.shape, nullptr}.size()),
        operands(PackedMlp<float, Operand>{p.shape, nullptr}.operands_at(p.shape.n_layers())),
        grad_operands(PackedMlpGrad<float, Operand>{p.shape, nullptr}.operands_at(p.shape.n_layers())),
        sums(MlpGradSums<float>{p.shape, nullptr}.size()),
        folded(p.n_cond * mlp_padded(p.shape.d_hidden)) {
    const MlpShape& s = p.shape;
    const PackedMlp<float> exact = pack_mlp_forward(p, packed.get());
    const int width = mlp_padded(s.d_hidden);
    for (int c = 0; c < p.n_cond; ++c) {
      for (int n = 0; n < width; ++n) {
        packed.get()[exact.folded_at() + c * width + n] = n < s.d_hidden ? mlp_folded_bias(p, c, n) : 0.0f;
      }
    }
    task.forward = as_operands(true, exact, operands.get());
    task.weights = as_operands(true, pack_mlp_grad(s, p.params, packed_grad.get()), grad_operands.get());
    task.sums = {s, sums.data()};
    task.folded = folded.data();
  }
};

struct Results {
  std::vector<float> out, grad_x, sums, folded;
};

// One task's forward and backward pass with the arithmetic S.
template <class S>
Results run(const Problem& q) {
  const MlpShape& s = q.shape;
  ConditionedMlpBwd<float> p{};
  p.fwd.x = q.x.data(), p.fwd.params = q.params.data(), p.fwd.cond = q.cond.data();
  p.fwd.cond_index = q.index.data(), p.fwd.n_samples = q.n_samples, p.fwd.n_cond = q.n_cond;
  p.fwd.shape = s, p.grad_out = q.grad_out.data();

  Net<S> net(p.fwd);
  Results r{std::vector<float>(q.grad_out.size()), std::vector<float>(q.x.size()), {}, {}};
  p.fwd.out = r.out.data(), p.grad_x = r.grad_x.data();
  Memory<float> buffers(MlpBackwardBuffers<float, MlpOperand<S>>::size(s));
  const auto& kernels = mlp_kernels<S, PortableSimd<float>>();
  kernels.forward({&p.fwd, net.task.forward, buffers.get(), 0, q.n_samples});
  kernels.backward({&p, net.task, buffers.get(), 0, q.n_samples});
  r.sums = net.sums, r.folded = net.folded;
  return r;
}

// Both add up the same exact products in another order; a sum that then rounds to the neighbouring bfloat16
// moves what follows by a part in 256. So: equal on the whole, and nowhere far off.
void expect_same(const std::vector<float>& got, const std::vector<float>& expected) {
  EXPECT_EQ(got.size(), expected.size());
  double difference = 0.0, size = 0.0, worst = 0.0, largest = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double d = std::fabs(static_cast<double>(got[i]) - expected[i]);
    EXPECT(std::isfinite(got[i]));
    difference += d * d, size += static_cast<double>(expected[i]) * expected[i];
    worst = std::fmax(worst, d), largest = std::fmax(largest, std::fabs(expected[i]));
  }
  EXPECT(size > 0.0);
  EXPECT(std::sqrt(difference / size) <= 1e-3);
  EXPECT(worst <= 1e-2 * largest);
}

template <class S>
void test_a_network(const MlpShape& shape, int n_samples) {
  const Problem problem(shape, n_samples);
  const Results got = run<S>(problem), expected = run<Rounded>(problem);
  expect_same(got.out, expected.out);
  expect_same(got.grad_x, expected.grad_x);
  expect_same(got.sums, expected.sums);
  expect_same(got.folded, expected.folded);
}

// Features that stand for those of a grid.
struct MadeUpEncode {
  static constexpr bool kSplits = false;
  template <class T>
  static void run(const RadianceFieldFwd<T>& p, const T* const* axes, int n, T* features, int stride) {
    for (int i = 0; i < n; ++i) {
      for (int k = 0; k < p.sigma.d_in; ++k)
        features[i * stride + k] = std::sin(axes[k % 3][i] * static_cast<T>(k + 1));
    }
  }
};

struct FieldResults {
  std::vector<float> sigmas, rgbs, grad_features, sigma_sums, color_sums, conditions, views;
};

// One task's forward and backward pass of the radiance field.
template <class S>
FieldResults run_field(const MlpShape& sigma, const MlpShape& color, int n) {
  using Operand = MlpOperand<S>;
  const auto sized = [](int64_t size, int seed, float scale) { return random_values(size, seed, scale); };
  const float gain = 1.0f / std::sqrt(static_cast<float>(sigma.d_hidden));
  const std::vector<float> positions = sized(3 * n, 1, 1.0f), sigma_params = sized(sigma.n_params(), 2, gain),
                           color_params = sized(color.n_params(), 3, gain),
                           cond = sized(sigma.d_cond, 4, 1.0f), views = sized(2 * color.d_cond, 5, 1.0f),
                           grad_sigmas = sized(n, 6, 1.0f), grad_rgbs = sized(3 * n, 7, 1.0f);
  std::vector<int32_t> view_index(n), samples(n);
  for (int i = 0; i < n; ++i) view_index[i] = 2 * i / n, samples[i] = i;
  FieldResults r{
      std::vector<float>(n), std::vector<float>(3 * n), std::vector<float>(n * sigma.d_in), {}, {}, {}, {}};
  RadianceFieldBwd<float> p{};
  p.fwd.positions = positions.data(), p.fwd.sigma_params = sigma_params.data();
  p.fwd.color_params = color_params.data(), p.fwd.cond = cond.data(), p.fwd.views = views.data();
  p.fwd.view_index = view_index.data(), p.fwd.n = n, p.fwd.n_cond = 1, p.fwd.n_views = 2;
  p.fwd.sigma = sigma, p.fwd.color = color, p.fwd.sigmas = r.sigmas.data(), p.fwd.rgbs = r.rgbs.data();
  p.grad_sigmas = grad_sigmas.data(), p.grad_rgbs = grad_rgbs.data();

  Net<S> sigma_net(p.fwd.sigma_net()), color_net(p.fwd.color_net());
  std::vector<float> memory(field_buffers_size<FieldBackwardBuffers<float, Operand>>(p.fwd)), kept(3 * n);
  const auto& kernels = field_kernels<S, MadeUpEncode, PortableSimd<float>>();
  kernels.forward({&p.fwd, sigma_net.task.forward, color_net.task.forward, memory.data(), 0, n});
  kernels.backward({&p, samples.data(), sigma_net.task, color_net.task, kept.data(), r.grad_features.data(),
                    memory.data(), 0, n});
  r.sigma_sums = sigma_net.sums, r.color_sums = color_net.sums;
  r.conditions = sigma_net.folded, r.views = color_net.folded;
  EXPECT(kept == positions);
  return r;
}

template <class S>
void test_a_field(const MlpShape& sigma, const MlpShape& color, int n) {
  const FieldResults got = run_field<S>(sigma, color, n), expected = run_field<Rounded>(sigma, color, n);
  expect_same(got.sigmas, expected.sigmas);
  expect_same(got.rgbs, expected.rgbs);
  expect_same(got.grad_features, expected.grad_features);
  expect_same(got.sigma_sums, expected.sigma_sums);
  expect_same(got.color_sums, expected.color_sums);
  expect_same(got.conditions, expected.conditions);
  expect_same(got.views, expected.views);
}

// A single product has no rounding to hide behind: integers must come out exactly, wherever they lie.
template <class S>
void test_products_are_exact() {
  constexpr int kIn = 40, kOut = 48;
  std::vector<float> weights(kIn * kOut), bias(kOut);
  std::vector<BFloat16> x(kMlpTile * 64, BFloat16{0});
  Memory<BFloat16> operands(operand_count<BFloat16>(kIn, kOut));
  for (int i = 0; i < kIn * kOut; ++i) weights[i] = static_cast<float>(i * 7 % 31 - 15);
  for (int n = 0; n < kOut; ++n) bias[n] = static_cast<float>(n);
  for (int m = 0; m < kMlpTile; ++m) {
    for (int k = 0; k < kIn; ++k)
      x[m * 64 + k] = round_bfloat16(static_cast<float>((m * 5 + k * 3) % 17 - 8));
  }
  pack_operands(weights.data(), kIn, kOut, operands.get());
  const LayerOf<S> layer{operands.get(), bias.data(), nullptr, nullptr, kIn, kOut};
  std::vector<float> y(kMlpTile * kOut);
  {
    const typename MlpArithmetic<S>::Scope scope;
    layer_tile<S, Finish::kNone>(layer, x.data(), 64, y.data(), kOut);
  }
  for (int m = 0; m < kMlpTile; ++m) {
    for (int n = 0; n < kOut; ++n) {
      float expected = bias[n];
      for (int k = 0; k < kIn; ++k) expected += widen(x[m * 64 + k]) * weights[k * kOut + n];
      EXPECT_EQ(y[m * kOut + n], expected);
    }
  }
}

template <class S>
void test_all() {
  test_products_are_exact<S>();
  test_a_network<S>({32, 12, 64, 3, 16, false}, 150);
  test_a_network<S>({31, 0, 64, 2, 3, true}, 96);
  test_a_network<S>({5, 1, 37, 4, 6, false}, 47);
  test_a_network<S>({40, 7, 128, 1, 65, true}, 97);
  test_a_network<S>({3, 2, 80, 2, 17, false}, 48);
  test_a_field<S>({32, 12, 64, 3, 16, false}, {15, 16, 64, 2, 3, true}, 16 * 48 + 50);
  test_a_field<S>({12, 3, 37, 1, 18, false}, {17, 16, 80, 4, 3, true}, 47);
  test_a_field<S>({8, 3, 128, 1, 33, false}, {32, 16, 24, 3, 3, true}, 49);
}

}  // namespace
}  // namespace nerfad

int main() {
  nerfad::test_all<nerfad::Emulated>();
#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
  EXPECT(nerfad::detected_isa() == nerfad::Isa::kAmx);  // which asks for the registers
  if (nerfad::detected_isa() == nerfad::Isa::kAmx) nerfad::test_all<nerfad::AmxBf16>();
#endif
  return nerfad_test::finish("matrix_tile_test");
}
