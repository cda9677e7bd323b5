// Sums of products of matrices.

#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "lanes.h"

namespace vae_runner {

// The most groups of columns, and sums, for which there are registers beside the factors.
#if defined(__AVX512F__)
constexpr int kMostGroups = 4, kMostSums = 28;
#elif defined(__aarch64__)
constexpr int kMostGroups = 4, kMostSums = 24;
#else
constexpr int kMostGroups = 2, kMostSums = 12;
#endif

// A part of a sum of products of matrices: left [rows, count] · right [count, columns].
struct Term {
  const float *left, *right;
  int64_t count;
};

// How far it is from one row or column to the next.
struct Steps {
  int64_t left_row, left_column, right_row, out_row;
};

// kRows rows and N · kLanes columns of the sum, which are added to `out` or replace it.
template <bool kAddsToOut, int kRows, int N>
void SumRows(const std::vector<Term>& terms, int64_t first_left, const Steps& steps, float* out) {
  Lanes sum[kRows][N] = {};
  for (const Term& term : terms) {
    const float *left = term.left + first_left, *right = term.right;
    for (int64_t k = 0; k < term.count; k++, left += steps.left_column, right += steps.right_row) {
      Lanes factor[N];
      for (int i = 0; i < N; i++) factor[i] = Load(right + i * kLanes);
      for (int row = 0; row < kRows; row++) {
        for (int i = 0; i < N; i++) sum[row][i] += left[row * steps.left_row] * factor[i];
      }
    }
  }
  for (int row = 0; row < kRows; row++) {
    for (int i = 0; i < N; i++) {
      float* to = out + row * steps.out_row + i * kLanes;
      Store(to, kAddsToOut ? Load(to) + sum[row][i] : sum[row][i]);
    }
  }
}

// The same for a number of rows that is known only now: 1 … as many as the sequence is long.
template <bool kAddsToOut, int N, int... kLess, typename... Arguments>
void SumRowsOf(int64_t rows, std::integer_sequence<int, kLess...>, const Arguments&... arguments) {
  ((rows == kLess + 1 ? SumRows<kAddsToOut, kLess + 1, N>(arguments...) : void()), ...);
}

// The same for any number of rows, in parts that are about equal.
template <bool kAddsToOut, int N>
void SumUp(int64_t rows, const std::vector<Term>& terms, const Steps& steps, float* out) {
  constexpr int kMostRows = std::min(kMostSums / N, 14);  // More are no faster, and each is a function of its own.
  const int64_t parts = (rows + kMostRows - 1) / kMostRows;
  for (int64_t part = 0; part < parts; part++) {
    const int64_t first = rows * part / parts, last = rows * (part + 1) / parts;
    SumRowsOf<kAddsToOut, N>(last - first, std::make_integer_sequence<int, kMostRows>(), terms,
                             first * steps.left_row, steps, out + first * steps.out_row);
  }
}

}  // namespace vae_runner
