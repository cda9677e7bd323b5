// Convolutions of a row with fewer multiplications than taps (Winograd, 1980; Lavin & Gray, 2016, arXiv:1509.09308).
//
// Four neighbouring outputs y of a row are sums of twelve products of an input x and one of three weights w. Six
// products are enough with stride 1, and nine with stride 2: y = Aᵀ (G w ⊙ Bᵀ x), where A, B and G depend on the stride
// alone. The transposed convolution, which is the gradient of the inputs, is x' = B (G w ⊙ A y'); the gradient of the
// weights is w' = Gᵀ (Bᵀ x ⊙ A y').
//
// An infinite input makes its whole tile no numbers, as differences of inputs are taken.

#pragma once

#include "lanes.h"

namespace vae_runner {

constexpr int kTileOutputs = 4;

// The matrices of a stride, each as a function that multiplies by it. Some products take the same weights. Some are
// needed for the last of a tile's outputs alone, and are left out where a tile has three.
template <int kStride>
struct Algorithm;

// By the points 0, ±1, ±2 and ∞: products of ±1 share `even` and `odd`, those of ±2 the `far` ones.
template <>
struct Algorithm<1> {
  static constexpr int kProducts = 6, kInputs = 6, kWeights = 6;
  static constexpr int kWeightOf[kProducts] = {0, 1, 2, 3, 4, 5};
  static constexpr bool kForLastOutput[kProducts] = {false, false, false, false, false, true};

  // Bᵀ x
  template <typename T>
  static void FromInputs(const T (&x)[kInputs], T (&u)[kProducts]) {
    u[0] = 4 * x[0] - 5 * x[2] + x[4];
    const T even = x[4] - 4 * x[2], odd = x[3] - 4 * x[1];
    u[1] = even + odd, u[2] = even - odd;
    const T near = x[4] - x[2], far = 2 * (x[3] - x[1]);
    u[3] = near + far, u[4] = near - far;
    u[5] = 4 * x[1] - 5 * x[3] + x[5];
  }
  // B m
  template <typename T>
  static void ToInputs(const T (&m)[kProducts], T (&x)[kInputs]) {
    const T even = m[1] + m[2], odd = m[1] - m[2], far_even = m[3] + m[4], far_odd = 2 * (m[3] - m[4]);
    x[0] = 4 * m[0];
    x[1] = 4 * (m[5] - odd) - far_odd;
    x[2] = -5 * m[0] - 4 * even - far_even;
    x[3] = odd + far_odd - 5 * m[5];
    x[4] = m[0] + even + far_even;
    x[5] = m[5];
  }
  // G w
  template <typename T>
  static void FromKernel(const T (&w)[kSide], T (&g)[kWeights]) {
    const T even = w[0] + w[2], far = w[0] + 4 * w[2];
    g[0] = w[0] / 4;
    g[1] = (even + w[1]) / -6, g[2] = (even - w[1]) / -6;
    g[3] = (far + 2 * w[1]) / 24, g[4] = (far - 2 * w[1]) / 24;
    g[5] = w[2];
  }
  // Gᵀ s
  template <typename T>
  static void ToKernel(const T (&s)[kWeights], T (&w)[kSide]) {
    const T even = (s[1] + s[2]) / 6, far = (s[3] + s[4]) / 24;
    w[0] = s[0] / 4 - even + far;
    w[1] = (s[2] - s[1]) / 6 + (s[3] - s[4]) / 12;
    w[2] = s[5] - even + 4 * far;
  }
  // Aᵀ m
  template <typename T>
  static void ToOutputs(const T (&m)[kProducts], T (&y)[kTileOutputs]) {
    const T even = m[1] + m[2], odd = m[1] - m[2], far_even = m[3] + m[4], far_odd = 2 * (m[3] - m[4]);
    y[0] = m[0] + even + far_even;
    y[1] = odd + far_odd;
    y[2] = even + 4 * far_even;
    y[3] = odd + 4 * far_odd + m[5];
  }
  // A y
  template <typename T>
  static void FromOutputs(const T (&y)[kTileOutputs], T (&v)[kProducts]) {
    const T even = y[0] + y[2], odd = y[1] + y[3], far_even = y[0] + 4 * y[2], far_odd = 2 * y[1] + 8 * y[3];
    v[0] = y[0];
    v[1] = even + odd, v[2] = even - odd;
    v[3] = far_even + far_odd, v[4] = far_even - far_odd;
    v[5] = y[3];
  }
};

// Even inputs meet two weights: by the points 0, ±1, 2 and ∞ five products make their part of four outputs. Odd inputs
// meet one weight, which takes four.
template <>
struct Algorithm<2> {
  static constexpr int kProducts = 9, kInputs = 9, kWeights = 6;
  static constexpr int kWeightOf[kProducts] = {0, 1, 2, 3, 4, 5, 5, 5, 5};
  static constexpr bool kForLastOutput[kProducts] = {false, false, false, false, true, false, false, false, true};

  // The same matrices, in the same order.
  template <typename T>
  static void FromInputs(const T (&x)[kInputs], T (&u)[kProducts]) {
    u[0] = 2 * (x[0] - x[4]) + x[6] - x[2];
    u[1] = 2 * x[2] + x[4] - x[6];
    u[2] = 3 * x[4] - 2 * x[2] - x[6];
    u[3] = x[6] - x[2];
    u[4] = 2 * (x[2] - x[6]) + x[8] - x[4];
    u[5] = x[1], u[6] = x[3], u[7] = x[5], u[8] = x[7];
  }
  template <typename T>
  static void ToInputs(const T (&m)[kProducts], T (&x)[kInputs]) {
    x[0] = 2 * m[0];
    x[2] = 2 * (m[1] - m[2] + m[4]) - m[0] - m[3];
    x[4] = m[1] + 3 * m[2] - 2 * m[0] - m[4];
    x[6] = m[0] - m[1] - m[2] + m[3] - 2 * m[4];
    x[8] = m[4];
    x[1] = m[5], x[3] = m[6], x[5] = m[7], x[7] = m[8];
  }
  template <typename T>
  static void FromKernel(const T (&w)[kSide], T (&g)[kWeights]) {
    g[0] = w[0] / 2;
    g[1] = (w[0] + w[2]) / 2;
    g[2] = (w[0] - w[2]) / 6;
    g[3] = (w[0] + 2 * w[2]) / 6;
    g[4] = w[2];
    g[5] = w[1];
  }
  template <typename T>
  static void ToKernel(const T (&s)[kWeights], T (&w)[kSide]) {
    w[0] = (s[0] + s[1]) / 2 + (s[2] + s[3]) / 6;
    w[1] = s[5];
    w[2] = s[1] / 2 + (2 * s[3] - s[2]) / 6 + s[4];
  }
  template <typename T>
  static void ToOutputs(const T (&m)[kProducts], T (&y)[kTileOutputs]) {
    const T even = m[1] + m[2], odd = m[1] - m[2];
    y[0] = m[0] + even + m[3] + m[5];
    y[1] = odd + 2 * m[3] + m[6];
    y[2] = even + 4 * m[3] + m[7];
    y[3] = odd + 8 * m[3] + m[4] + m[8];
  }
  template <typename T>
  static void FromOutputs(const T (&y)[kTileOutputs], T (&v)[kProducts]) {
    const T even = y[0] + y[2], odd = y[1] + y[3];
    v[0] = y[0];
    v[1] = even + odd, v[2] = even - odd;
    v[3] = y[0] + 2 * y[1] + 4 * y[2] + 8 * y[3];
    v[4] = y[3];
    v[5] = y[0], v[6] = y[1], v[7] = y[2], v[8] = y[3];
  }
};

}  // namespace vae_runner
