#include "runtime/cuda/cuda_backend.h"
#include "runtime/cuda/tensor_data.h"

namespace moecast::cuda {

void CudaBackend::fill(Lane lane, Tensor y, double value) {
  note(launch_fill(select(lane).stream, number(y), y.data, y.element_count(), value), "fill");
}

void CudaBackend::add(Lane lane, Tensor y, Tensor x) {
  const Index count = y.element_count();
  note(launch_add(select(lane).stream, real(y), y.data, data_like(x, y, count), count), "add");
}

void CudaBackend::cast(Lane lane, Tensor y, Tensor x) {
  const Index count = y.element_count();
  note(launch_cast(select(lane).stream, number(y), y.data, number(x), data(x, count), count), "cast");
}

void CudaBackend::add_scaled_rows(Lane lane, Tensor y, Tensor x, Tensor c) {
  note(launch_add_scaled_rows(select(lane).stream, real(y), y.data, data_like(x, y, y.element_count()),
                              optional_floats(c, y.rows()), y.rows(), y.columns()),
       "add_scaled_rows");
}

void CudaBackend::scaled_rows_backward(Lane lane, Tensor dy, Tensor x, Tensor c, Tensor dx, Tensor dc) {
  const Index count = dy.element_count();
  note(launch_scaled_rows_backward(select(lane).stream, real(dy), dy.data, data_like(x, dy, count),
                                   optional_floats(c, dy.rows()), data_like(dx, dy, count),
                                   optional_floats(dc, dy.rows()), dy.rows(), dy.columns()),
       "scaled_rows_backward");
}

void CudaBackend::sigmoid(Lane lane, Tensor c) {
  note(launch_sigmoid(select(lane).stream, floats(c, c.element_count()), c.element_count()), "sigmoid");
}

void CudaBackend::softmax_pairs(Lane, Tensor) { ASSERT(false, "the trainer refuses coefficient_gate cg2 on CUDA"); }

void CudaBackend::softmax_pairs_backward(Lane, Tensor, Tensor) {
  ASSERT(false, "the trainer refuses coefficient_gate cg2 on CUDA");
}

void CudaBackend::sigmoid_backward(Lane lane, Tensor c, Tensor dc) {
  const Index count = c.element_count();
  note(launch_sigmoid_backward(select(lane).stream, floats(c, count), floats(dc, count), count), "sigmoid_backward");
}

}  // namespace moecast::cuda
