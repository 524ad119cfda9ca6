#include "gather_features_simd.h"

namespace nerfad {

GatherFeaturesRanges<float> gather_features_ranges_avx2() { return gather_features_ranges<Avx2Simd>(); }

}  // namespace nerfad
