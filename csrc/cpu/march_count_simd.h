// The counting pass of the march with vectors. Of rays all over a picture, most are soon through and some
// take long: a lane that is through takes the next ray.
#pragma once
#include "march_simd.h"  // first: it silences gcc 12 about its own intrinsics

#include <type_traits>

namespace nerfad {
namespace {

// Rays that may have samples, and that no lane has taken yet; the last ones go first.
struct WaitingRays {
  static constexpr int kSize = 3 * kLanes;  // fewer than two vectors of them, and a vector that is readable
  float base[3][kSize], slope[3][kSize], inverse[3][kSize], t_min[kSize], jitter[kSize];
  int32_t end[kSize], first[kSize], number[kSize];
  int n = 0;

  void add(const RayLanes& ray, Ints first_step, Ints numbers, Mask lanes) {
    const Front front(lanes);
    store_rays(front, ray, *this, n);
    front.store(jitter + n, ray.jitter);
    front.store(first + n, first_step);
    front.store(number + n, numbers);
    n += front.n;
  }
};

// The runs of kLanes rays as they are found.
struct RunLanes {
  Ints number{};  // of the ray
  Ints begin{}, n_runs{}, count{};
  Mask open{};

  void close(const MarchCount& p, Mask lanes, Ints end) {
    for (uint32_t left = bits_of(lanes & greater(all(kMarchRuns), n_runs)); left; left &= left - 1) {
      const int lane = __builtin_ctz(left);
      int32_t* run = p.runs + 2 * (int64_t{kMarchRuns} * number[lane] + n_runs[lane]);
      run[0] = begin[lane];
      run[1] = end[lane];
    }
    n_runs = choose(lanes, n_runs + 1, n_runs);
    count = choose(lanes, count + end - begin, count);
    open &= ~lanes;
  }
  // What is known of rays that are through.
  void write(const MarchCount& p, Mask lanes) const {
    for (uint32_t left = bits_of(lanes); left; left &= left - 1) {
      const int lane = __builtin_ctz(left);
      const int64_t ray = number[lane];
      p.counts[ray] = count[lane];
      if (n_runs[lane] > kMarchRuns) p.runs[2 * kMarchRuns * ray] = p.runs[2 * kMarchRuns * ray + 1] = -1;
    }
  }
};

// kLanes rays on their way.
struct Group {
  RayLanes ray{};
  RunLanes found;
  Ints step{};
  Mask alive{}, taken{};  // lanes that go on; lanes with a ray whose runs are not written yet

  explicit Group(const MarchGrid& grid) {
    march_set_step(grid, ray);
    ray.resolution = grid.resolution;
    for (int a = 0; a < 3; ++a) march_box_side(grid, a, ray.low[a], ray.high[a]);
  }
  int n_alive() const { return __builtin_popcount(bits_of(alive)); }

  // Waiting rays, as many as there are, to the lanes that are through.
  void refill(const MarchCount& p, WaitingRays& waiting) {
    found.write(p, taken & ~alive);
    Ints from{}, takes{};
    int n = 0;
    for (uint32_t left = bits_of(first_lanes(kLanes) & ~alive); left && n < waiting.n; left &= left - 1) {
      const int lane = __builtin_ctz(left);
      from[lane] = n++;
      takes[lane] = 1;
    }
    waiting.n -= n;
    const Mask lanes = equal(takes, all(1));
    const auto take = [&](auto& to, const auto* waits) {
      const auto next = load_lanes<std::remove_reference_t<decltype(to)>>(waits + waiting.n);
      to = choose(lanes, __builtin_shuffle(next, from), to);
    };
    for (int a = 0; a < 3; ++a) {
      take(ray.base[a], waiting.base[a]);
      take(ray.slope[a], waiting.slope[a]);
      take(ray.inverse[a], waiting.inverse[a]);
      set_direction(ray, a);
    }
    take(ray.t_min, waiting.t_min);
    take(ray.jitter, waiting.jitter);
    take(ray.end, waiting.end);
    take(step, waiting.first);
    take(found.number, waiting.number);
    found.n_runs = choose(lanes, Ints{}, found.n_runs);
    found.count = choose(lanes, Ints{}, found.count);
    found.open &= ~lanes;
    alive |= lanes;
    taken = alive;
  }
};

// One step or skip of every ray.
void advance(const MarchCount& p, Group& g) {
  PlaceLanes here = place(g.ray, t_mid(g.ray, g.step));
  here.inside &= g.alive;
  const BlockLanes block = look_up(p.rays.grid, here);
  const Mask starting = block.occupied & ~g.found.open;
  const Mask ending = g.alive & g.found.open & ~block.occupied;
  g.found.begin = choose(starting, g.step, g.found.begin);
  g.found.open |= starting;
  if (ending) g.found.close(p, ending, g.step);
  g.alive &= ~here.past;
  g.step = leave_block(g.ray, g.step, here, block, here.inside & block.uniform);
  const Mask at_end = g.alive & ~greater(g.ray.end, g.step);
  const Mask cut = at_end & g.found.open;
  if (cut) g.found.close(p, cut, g.step);
  g.alive &= ~at_end;
}

// The rays of a range, in the order in which lanes become free.
class CountingPass {
 public:
  CountingPass(const MarchCount& p, int64_t begin, int64_t end)
      : p_(p), next_(begin), end_(end), first_(p.rays.grid), second_(p.rays.grid) {}

  // Two groups side by side: a step is one long chain of dependent instructions, so that each fills the
  // other's waits.
  void run() {
    for (;;) {
      refill(first_);
      refill(second_);
      if (!(first_.alive | second_.alive)) break;
      advance(p_, first_);
      advance(p_, second_);
    }
    for (const Group* g : {&first_, &second_}) g->found.write(p_, g->taken);
  }

 private:
  void refill(Group& g) {
    if (4 * g.n_alive() > 3 * kLanes) return;  // fewer at a time cost more than they gain
    while (waiting_.n < kLanes && next_ < end_) wait();
    if (waiting_.n > 0) g.refill(p_, waiting_);
  }
  // The next kLanes rays: those without samples are through at once.
  void wait() {
    const int n = static_cast<int>(end_ - next_ < kLanes ? end_ - next_ : kLanes);
    std::memset(p_.runs + 2 * kMarchRuns * next_, 0, sizeof(int32_t) * 2 * kMarchRuns * n);
    std::memset(p_.counts + next_, 0, sizeof(int32_t) * n);
    RayLanes ray;
    Ints first;
    const Mask lanes = set_up(p_.rays, next_, first_lanes(n), ray, first);
    if (lanes) waiting_.add(ray, first, lane_numbers() + static_cast<int32_t>(next_), lanes);
    next_ += n;
  }

  const MarchCount& p_;
  int64_t next_, end_;
  WaitingRays waiting_;
  Group first_, second_;
};

void count(const MarchCount& p, int64_t begin, int64_t end) {
  if (ray_by_ray(p.rays.grid)) {
    for (int64_t ray = begin; ray < end; ++ray) march_count_ray(p, ray);
  } else {
    CountingPass(p, begin, end).run();
  }
}

}  // namespace
}  // namespace nerfad
