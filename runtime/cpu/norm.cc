#include "runtime/cpu/cpu_backend_class.h"
#include "runtime/cpu/tensor_data.h"

namespace moecast::cpu {
namespace {

template <typename T>
NormCall<T> norm_call(NormKind kind, const Tensor& x, const Tensor& gain, const Tensor& mean, const Tensor& rstd) {
  NormCall<T> call;
  call.center = kind == NormKind::LayerNorm;
  ASSERT(call.center == !mean.empty(), "LayerNorm has a mean, RMSNorm has none");
  call.rows = x.rows();
  call.columns = x.columns();
  call.x = elements<T>(x, x.element_count());
  call.gain = elements<T>(gain, call.columns);
  call.mean = optional_elements<T>(mean, call.rows);
  call.rstd = elements<T>(rstd, call.rows);
  return call;
}

}  // namespace

void CpuBackend::norm(Lane, NormKind kind, Tensor x, Tensor gain, Tensor bias, double epsilon, Tensor y, Tensor mean,
                      Tensor rstd) {
  with_scalar(x.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    kernels.norm(norm_call<T>(kind, x, gain, mean, rstd), optional_elements<T>(bias, x.columns()), epsilon,
                 elements<T>(y, x.element_count()));
  });
}

void CpuBackend::norm_backward(Lane, NormKind kind, Tensor dy, Tensor x, Tensor gain, Tensor mean, Tensor rstd,
                               Tensor dx, bool accumulate, Tensor dgain, Tensor dbias) {
  with_scalar(x.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const std::int64_t count = x.element_count();
    kernels.norm_backward(norm_call<T>(kind, x, gain, mean, rstd), elements<T>(dy, count), elements<T>(dx, count),
                          accumulate, elements<T>(dgain, x.columns()), optional_elements<T>(dbias, x.columns()));
  });
}

}  // namespace moecast::cpu
