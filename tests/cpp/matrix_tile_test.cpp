// Proves the matrix-tile (AMX) code of the MLP without such hardware: the same templates run over a register
// file in plain C++ that knows each register's shape, and must give what the portable bfloat16 code gives.
// What this cannot prove: the instructions of csrc/cpu/amx_tiles.h themselves.
#include "../../csrc/cpu/mlp_matrix_tile.h"

#include <cmath>
#include <random>
#include <vector>

#include "../../csrc/cpu/conditioned_mlp_tiles.h"
#include "check.h"

namespace nerfad {
namespace {

// bfloat16 in pairs without vector instructions for them.
struct PortablePairs : PortableSimd<float> {};

template <>
struct MlpArithmetic<PortablePairs> {
  using Operand = BFloat16;
  static constexpr int kDepth = kOperandDepth<Operand>;
  static constexpr bool kRounds = true;
  static void store(Operand* p, PortablePairs::V v) {
    for (int i = 0; i < PortablePairs::kWidth; ++i) p[i] = round_bfloat16(v[i]);
  }
  static PortablePairs::V keep_where_positive(PortablePairs::V v, const Operand* h) {
    for (int i = 0; i < PortablePairs::kWidth; ++i) v[i] = widen(h[i]) > 0 ? v[i] : 0.0f;
    return v;
  }
  static void interleave(const Operand* a, const Operand* b, Operand* to) {
    for (int i = 0; i < PortablePairs::kWidth; ++i) to[2 * i] = a[i], to[2 * i + 1] = b[i];
  }
};

// Tile registers as the instruction set's manual describes them. Use without a configuration, and products of
// registers whose shapes do not fit, fail the test.
class EmulatedTiles {
 public:
  struct Scope {
    Scope() {
      EXPECT(!configured_);
      configured_ = true;
    }
    ~Scope() { configured_ = false; }
  };

  template <int kTo>
  static void zero() {
    EXPECT(configured_);
    std::memset(registers_[kTo], 0, sizeof(registers_[kTo]));
  }
  template <int kTo>
  static void load(const void* from, int64_t stride_bytes) {
    zero<kTo>();
    for (int r = 0; r < kTileShapes[kTo].rows; ++r) {
      std::memcpy(registers_[kTo][r], static_cast<const char*>(from) + r * stride_bytes,
                  kTileShapes[kTo].row_bytes);
    }
  }
  template <int kFrom>
  static void store(void* to, int64_t stride_bytes) {
    EXPECT(configured_);
    for (int r = 0; r < kTileShapes[kFrom].rows; ++r) {
      std::memcpy(static_cast<char*>(to) + r * stride_bytes, registers_[kFrom][r],
                  kTileShapes[kFrom].row_bytes);
    }
  }
  template <int kSum, int kA, int kB>
  static void multiply_add() {
    EXPECT(configured_);
    constexpr TileShape sum = kTileShapes[kSum], a = kTileShapes[kA], b = kTileShapes[kB];
    static_assert(sum.rows == a.rows && sum.row_bytes == b.row_bytes && a.row_bytes == 4 * b.rows);
    for (int m = 0; m < sum.rows; ++m) {
      for (int n = 0; n < sum.row_bytes / 4; ++n) {
        float total;
        std::memcpy(&total, registers_[kSum][m] + 4 * n, sizeof(total));
        for (int k = 0; k < 2 * b.rows; ++k) {
          total += operand(registers_[kA][m], k) * operand(registers_[kB][k / 2], 2 * n + k % 2);
        }
        std::memcpy(registers_[kSum][m] + 4 * n, &total, sizeof(total));
      }
    }
  }

 private:
  static float operand(const unsigned char* row, int i) {
    BFloat16 value;
    std::memcpy(&value, row + 2 * i, sizeof(value));
    return widen(value);
  }
  static inline bool configured_ = false;
  static inline unsigned char registers_[kTileRegisters][16][64];
};

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

struct Results {
  std::vector<float> out, grad_x, sums, folded;
};

// One task's forward and backward pass with the arithmetic S.
template <class S>
Results run(const Problem& q) {
  using Operand = MlpOperand<S>;
  const MlpShape& s = q.shape;
  ConditionedMlpBwd<float> p{};
  p.fwd.x = q.x.data(), p.fwd.params = q.params.data(), p.fwd.cond = q.cond.data();
  p.fwd.cond_index = q.index.data(), p.fwd.n_samples = q.n_samples, p.fwd.n_cond = q.n_cond;
  p.fwd.shape = s, p.grad_out = q.grad_out.data();

  Memory<float> packed(PackedMlp<float>{s, nullptr}.forward_size(q.n_cond));
  Memory<float> packed_grad(PackedMlpGrad<float>{s, nullptr}.size());
  const PackedMlp<float> exact = pack_mlp_forward(p.fwd, packed.get());
  const PackedMlpGrad<float> exact_grad = pack_mlp_grad(s, p.fwd.params, packed_grad.get());
  const int width = mlp_padded(s.d_hidden);
  for (int c = 0; c < q.n_cond; ++c) {
    for (int n = 0; n < width; ++n) {
      packed.get()[exact.folded_at() + c * width + n] = n < s.d_hidden ? mlp_folded_bias(p.fwd, c, n) : 0.0f;
    }
  }
  Memory<Operand> operands(PackedMlp<float, Operand>{s, nullptr}.operands_at(s.n_layers()));
  Memory<Operand> grad_operands(PackedMlpGrad<float, Operand>{s, nullptr}.operands_at(s.n_layers()));
  const auto mlp = as_operands(true, exact, operands.get());
  const auto grad_mlp = as_operands(true, exact_grad, grad_operands.get());

  Results r{std::vector<float>(q.grad_out.size()), std::vector<float>(q.x.size()),
            std::vector<float>(MlpGradSums<float>{s, nullptr}.size()), std::vector<float>(q.n_cond * width)};
  p.fwd.out = r.out.data(), p.grad_x = r.grad_x.data();
  Memory<float> buffers(MlpBackwardBuffers<float, Operand>::size(s));
  mlp_kernels<S, PortableSimd<float>>().forward({&p.fwd, mlp, buffers.get(), 0, q.n_samples});
  mlp_kernels<S, PortableSimd<float>>().backward(
      {&p, mlp, grad_mlp, {s, r.sums.data()}, r.folded.data(), 0, q.n_cond, buffers.get(), 0, q.n_samples});
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

void test_a_network(const MlpShape& shape, int n_samples) {
  const Problem problem(shape, n_samples);
  const Results got = run<Emulated>(problem), expected = run<Rounded>(problem);
  expect_same(got.out, expected.out);
  expect_same(got.grad_x, expected.grad_x);
  expect_same(got.sums, expected.sums);
  expect_same(got.folded, expected.folded);
}

// A single product has no rounding to hide behind: integers must come out exactly, wherever they lie.
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
  const LayerOf<Emulated> layer{operands.get(), bias.data(), nullptr, nullptr, kIn, kOut};
  std::vector<float> y(kMlpTile * kOut);
  {
    const EmulatedTiles::Scope scope;
    layer_tile<Emulated, Finish::kNone>(layer, x.data(), 64, y.data(), kOut);
  }
  for (int m = 0; m < kMlpTile; ++m) {
    for (int n = 0; n < kOut; ++n) {
      float expected = bias[n];
      for (int k = 0; k < kIn; ++k) expected += widen(x[m * 64 + k]) * weights[k * kOut + n];
      EXPECT_EQ(y[m * kOut + n], expected);
    }
  }
}

}  // namespace
}  // namespace nerfad

int main() {
  nerfad::test_products_are_exact();
  nerfad::test_a_network({32, 12, 64, 3, 16, false}, 150);
  nerfad::test_a_network({31, 0, 64, 2, 3, true}, 96);
  nerfad::test_a_network({5, 1, 37, 4, 6, false}, 47);
  nerfad::test_a_network({40, 7, 128, 1, 65, true}, 49);
  nerfad::test_a_network({3, 2, 80, 2, 17, false}, 48);
  return nerfad_test::finish("matrix_tile_test");
}
