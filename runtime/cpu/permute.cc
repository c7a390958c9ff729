#include "runtime/cpu/cpu_backend_class.h"
#include "runtime/cpu/tensor_data.h"

namespace moecast::cpu {
namespace {

/// row [T,k]: every choice names one of `row_count` rows or none (-1).
const std::int32_t* checked_rows(const Tensor& row, std::int64_t tokens, std::int64_t row_count) {
  ASSERT(row.dims == 2 && row.shape[0] == tokens, "row must be [{},k]", tokens);
  const std::int32_t* values = elements<std::int32_t>(row, row.element_count());
  for (std::int64_t i = 0; i < row.element_count(); ++i) {
    ASSERT(-1 <= values[i] && values[i] < row_count, "row {} of {}", values[i], row_count);
  }
  return values;
}

}  // namespace

void CpuBackend::permute(Lane lane, Tensor x, Tensor row, Tensor out) {
  with_scalar(x.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    kernels.permute(elements<T>(x, x.element_count()), checked_rows(row, x.rows(), out.rows()), x.rows(), row.columns(),
                    x.columns(), elements<T>(out, out.rows() * x.columns()), out.rows(), scratch(lane));
  });
}

void CpuBackend::permute_backward(Lane, Tensor dout, Tensor row, Tensor dx, bool accumulate) {
  with_scalar(dx.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    kernels.permute_backward(elements<T>(dout, dout.rows() * dx.columns()), checked_rows(row, dx.rows(), dout.rows()),
                             dx.rows(), row.columns(), dx.columns(), elements<T>(dx, dx.element_count()), accumulate);
  });
}

void CpuBackend::unpermute(Lane, Tensor rows, Tensor row, Tensor weight, Tensor out, bool accumulate) {
  with_scalar(out.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    kernels.unpermute(elements<T>(rows, rows.rows() * out.columns()), checked_rows(row, out.rows(), rows.rows()),
                      elements<T>(weight, row.element_count()), out.rows(), row.columns(), out.columns(),
                      elements<T>(out, out.element_count()), accumulate);
  });
}

void CpuBackend::unpermute_backward(Lane lane, Tensor dout, Tensor rows, Tensor row, Tensor weight, Tensor drows,
                                    Tensor dweight) {
  with_scalar(dout.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const std::int64_t count = rows.rows() * dout.columns();
    kernels.unpermute_backward(elements<T>(dout, dout.element_count()), elements<T>(rows, count),
                               checked_rows(row, dout.rows(), rows.rows()), elements<T>(weight, row.element_count()),
                               dout.rows(), row.columns(), dout.columns(), elements<T>(drows, count), rows.rows(),
                               elements<T>(dweight, row.element_count()), scratch(lane));
  });
}

}  // namespace moecast::cpu
