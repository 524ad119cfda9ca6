#include "gather_features_simd.h"

namespace nerfad {

GatherFeaturesRanges<float> gather_features_ranges_avx512() { return gather_features_ranges<Avx512Simd>(); }

}  // namespace nerfad
