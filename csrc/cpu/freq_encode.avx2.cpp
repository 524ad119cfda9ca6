#include "freq_encode_simd.h"

namespace nerfad {

void freq_encode_rows_avx2(const FreqEncodeFwd<float>& p, int64_t begin, int64_t end) {
  freq_encode_rows(p, begin, end);
}

}  // namespace nerfad
