// What the loader asks a kernel library before it uses it.
#include "device.h"

#ifdef NERFAD_EMULATED
extern "C" cudaError_t cudaGetDeviceCount(int* n) {
  *n = 1;
  return cudaSuccess;
}
extern "C" const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "emulated error";
}
#endif

NERFAD_EXPORT int nerfad_cuda_device_count(int* n) {
  *n = 0;
  return cudaGetDeviceCount(n);
}

NERFAD_EXPORT const char* nerfad_cuda_error_string(int code) {
  return cudaGetErrorString(static_cast<cudaError_t>(code));
}
