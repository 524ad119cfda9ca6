// The vector kernels of the networks alone, compiled for one instruction set by benchmarks/mlp_layers.py:
// each layer of the reference net against the multiply-add peak, then whole passes, with the hidden layers
// computed again for the backward pass or kept in memory. Prints one JSON object.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "ceilings_simd.h"
#include "conditioned_mlp_tiles.h"

using namespace nerfad;

#if defined(__AVX512F__)
using S = Avx512Simd;
#else
using S = Avx2Simd;
#endif

namespace {

constexpr int kLayers = 7, kColor = 4;  // of both networks; the first of the colour network
constexpr int kShape[kLayers][2] = {{32, 64}, {64, 64}, {64, 64}, {64, 16}, {15, 64}, {64, 64}, {64, 3}};

// What is kept for the backward pass: bit l for the outputs of layer l.
constexpr int kNothing = 0, kAll = 0b111111, kWideLayers = 0b100110;

double seconds(const std::chrono::steady_clock::time_point& since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

// The least time of a call, of some rounds of `n` calls.
template <class F>
double least(int n, const F& f) {
  double best = 1e9;
  for (int round = 0; round < 20; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < n; ++i) f();
    const double each = seconds(start) / n;
    if (round > 2 && each < best) best = each;
  }
  return best;
}

class Floats1D {
 public:
  explicit Floats1D(int64_t n = 0)
      : data_(n ? static_cast<float*>(std::aligned_alloc(64, bytes(n))) : nullptr) {
    for (int64_t i = 0; i < n; ++i) data_.get()[i] = 0.01f * static_cast<float>(i * 7919 % 200) - 1.0f;
  }
  float* at(int64_t i = 0) const { return data_.get() + i; }

 private:
  static size_t bytes(int64_t n) { return static_cast<size_t>(n * 4 + 4096 + 63) / 64 * 64; }
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> data_;
};

constexpr int kChains = S::kAccumulators, kTurns = 10000;

// Not inlined, where its sums would be in memory.
__attribute__((noinline)) double multiply_add_loop(const CeilingBuffer& buffer) {
  return fma_loop<S, kChains>(buffer, kTurns);
}

double peak_flops() {
  const Floats1D memory(128);
  std::fill_n(memory.at(), 128, 1.0f);  // sums that ran towards zero would be slow
  const CeilingBuffer buffer{memory.at(), 128};
  const double each = least(20, [&] { multiply_add_loop(buffer); });
  return 2.0 * kChains * kTurns * S::kWidth / each;
}

// Both networks of one thread, with their samples.
struct Networks {
  const int n_tiles;
  struct Layer {
    Floats1D weights{64 * 64}, transposed{64 * 64}, bias{64}, grad{64 * 64}, bias_grad{64}, out;
    int64_t kept_at;
  };
  Layer layers[kLayers];
  int64_t kept_size = 0;
  Floats1D x{int64_t{kMlpTile} * 32 * n_tiles}, grad_x{int64_t{kMlpTile} * 32 * n_tiles};
  Floats1D delta[2] = {Floats1D(kMlpTile * 64), Floats1D(kMlpTile * 64)};
  Floats1D kept;

  explicit Networks(int n) : n_tiles(n) {
    for (int l = 0; l < kLayers; ++l) {
      const int64_t size = kMlpTile * width(l) + kMlpPad;
      layers[l].out = Floats1D(size);
      layers[l].kept_at = kept_size;
      kept_size += size;
    }
    kept = Floats1D(kept_size * n_tiles);
  }
  static int width(int l) { return mlp_padded(kShape[l][1]); }

  float* output(int l, int tile, int keep) {
    return keep >> l & 1 ? kept.at(kept_size * tile + layers[l].kept_at) : layers[l].out.at();
  }
  const float* input(int l, int tile, int keep) {
    if (l == 0) return x.at(int64_t{tile} * kMlpTile * 32);
    return output(l - 1, tile, keep) + (l == kColor);  // the code lies behind the log density
  }
  static int input_stride(int l) { return l == 0 ? 32 : width(l - 1); }

  void forward(int l, int tile, int keep) {
    const LayerOf<S> layer{layers[l].weights.at(), layers[l].bias.at(), nullptr, nullptr,
                           kShape[l][0],           kShape[l][1]};
    const float* from = input(l, tile, keep);
    float* to = output(l, tile, keep);
    if (width(l) == 64) {
      layer_tile<S, Finish::kRelu>(layer, from, input_stride(l), to, 64);
    } else {
      layer_tile<S, Finish::kNone>(layer, from, input_stride(l), to, width(l));
    }
  }
  void weight_grad(int l, int tile, int keep, const float* d) {
    weight_grad_tile<S>(d, width(l), kShape[l][1], input(l, tile, keep), input_stride(l),
                        mlp_padded(kShape[l][0]), layers[l].grad.at());
    bias_grad_tile<S>(d, width(l), nullptr, 0, layers[l].bias_grad.at());
  }
  void input_grad(int l, int tile, int keep, const float* d, float* to) {
    const int n_in = mlp_padded(kShape[l][0]);
    const LayerOf<S> layer{layers[l].transposed.at(), nullptr,      nullptr,
                           input(l, tile, keep),      kShape[l][1], n_in};
    if (l == 0 || l == kColor) {
      layer_tile<S, Finish::kNone>(layer, d, width(l), to, n_in);
    } else {
      layer_tile<S, Finish::kWherePositive>(layer, d, width(l), to, n_in);
    }
  }
  void backward(int tile, int keep) {
    for (int l = kLayers - 1; l >= 0; --l) {
      float *d = delta[l & 1].at(),
            *next = l == 0 ? grad_x.at(int64_t{tile} * kMlpTile * 32) : delta[~l & 1].at();
      weight_grad(l, tile, keep, d);
      input_grad(l, tile, keep, d, next);
    }
  }

  void all_forward(int keep) {
    for (int tile = 0; tile < n_tiles; ++tile) {
      for (int l = 0; l < kLayers; ++l) forward(l, tile, keep);
    }
  }
  void all_backward(int keep) {
    for (int tile = 0; tile < n_tiles; ++tile) {
      for (int l = 0; l < kLayers - 1; ++l) {
        if (!(keep >> l & 1)) forward(l, tile, keep);
      }
      backward(tile, keep);
    }
  }
};

double multiply_adds(int l) { return double{kMlpTile} * kShape[l][0] * kShape[l][1]; }

// Nanoseconds a sample of a thread, all threads at once.
template <class F>
double pass(std::vector<std::unique_ptr<Networks>>& threads, const F& f) {
  double best = 1e9;
  for (int round = 0; round < 8; ++round) {
    std::vector<std::thread> running;
    const auto start = std::chrono::steady_clock::now();
    for (auto& each : threads) running.emplace_back([&] { f(*each); });
    for (std::thread& t : running) t.join();
    const double all = seconds(start);
    if (all < best) best = all;
  }
  return best * 1e9 / threads[0]->n_tiles / kMlpTile;
}

}  // namespace

int main(int argc, char** argv) {
  const int n_threads = argc > 1 ? std::atoi(argv[1]) : 1, n_tiles = argc > 2 ? std::atoi(argv[2]) : 1;
  const double peak = peak_flops();
  std::vector<std::unique_ptr<Networks>> threads;
  for (int i = 0; i < n_threads; ++i) threads.push_back(std::make_unique<Networks>(n_tiles));
  Networks& one = *threads[0];
  std::printf("{\"peak_gflops\": %.1f, \"layers\": [", peak * 1e-9);
  for (int l = 0; l < kLayers; ++l) {
    const auto share = [&](const auto& f) { return 2 * multiply_adds(l) / least(300, f) / peak; };
    const float* d = one.delta[0].at();
    std::printf("%s{\"in\": %d, \"out\": %d, \"forward\": %.3f, \"input_grad\": %.3f, \"weight_grad\": %.3f}",
                l ? ", " : "", kShape[l][0], kShape[l][1], share([&] { one.forward(l, 0, kNothing); }),
                share([&] { one.input_grad(l, 0, kNothing, d, one.delta[1].at()); }),
                share([&] { one.weight_grad(l, 0, kNothing, d); }));
  }
  std::printf("], \"ns_per_sample\": {");
  const auto print = [&](const char* name, double ns, const char* behind) {
    std::printf("\"%s\": %.1f%s", name, ns, behind);
  };
  print("forward", pass(threads, [](Networks& n) { n.all_forward(kNothing); }), ", ");
  const auto both = [&](int keep) {
    return pass(threads, [keep](Networks& n) {
      n.all_forward(keep);
      n.all_backward(keep);
    });
  };
  print("both, nothing kept", both(kNothing), ", ");
  print("both, 64-wide products kept", both(kWideLayers), ", ");
  print("both, all kept", both(kAll), "}}\n");
}
