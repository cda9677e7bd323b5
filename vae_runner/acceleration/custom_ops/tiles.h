// Images and maps in tiles of a few pixels of a row, and the products of their convolution (winograd.h).

#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "lanes.h"
#include "winograd.h"

namespace vae_runner {

enum class Workspace { kInputs, kOutputs, kZeros, kDiscarded, kCount };

// Memory of the calling thread for `size` numbers, of any values. Threads keep it for later operations: getting it from
// the system each time took two threads longer than one. It begins with a line of the cache, so that no group of
// channels straddles two.
inline float* MemoryFor(Workspace workspace, int64_t size) {
  constexpr std::align_val_t kAlignment{64};
  struct Delete {
    void operator()(float* numbers) const { operator delete[](numbers, kAlignment); }
  };
  struct Memory {
    int64_t size = 0;
    std::unique_ptr<float[], Delete> numbers;
  };
  static thread_local Memory memories[int(Workspace::kCount)];
  Memory& memory = memories[int(workspace)];
  if (memory.size < size) {
    memory.size = 0;
    memory.numbers.reset();
    memory.numbers.reset(new (kAlignment) float[size]);
    memory.size = size;
  }
  return memory.numbers.get();
}

// A convolution's images and maps. A row of maps is divided into tiles: as few as there can be, whole ones of four
// outputs, and then others of three; the last one may reach beyond the map.
//
// Rows of an image are counted from the first that the kernel reaches, `top` above it. Row r · stride + p is row r of
// phase p, and the kernel's row k is always on phase k % stride.
struct Geometry {
  int64_t images, height, width, channels;
  int64_t map_height, map_width, filters;
  int64_t stride, top, left;
  int64_t tiles, whole_tiles;

  Geometry(const TensorShape& shape, int64_t filters, int64_t stride)
      : images(shape.dim_size(0)),
        height(shape.dim_size(1)),
        width(shape.dim_size(2)),
        channels(shape.dim_size(3)),
        map_height((height + stride - 1) / stride),
        map_width((width + stride - 1) / stride),
        filters(filters),
        stride(stride),
        top(PaddingBefore(height, map_height, stride)),
        left(PaddingBefore(width, map_width, stride)),
        tiles((map_width + kTileOutputs - 1) / kTileOutputs),
        whole_tiles(std::max<int64_t>(map_width - (kTileOutputs - 1) * tiles, 0)) {}

  int64_t FirstOutput(int64_t tile) const { return tile * (kTileOutputs - 1) + std::min(tile, whole_tiles); }
  int64_t OutputsOf(int64_t tile) const { return tile < whole_tiles ? kTileOutputs : kTileOutputs - 1; }
  int64_t FirstInput(int64_t tile) const { return FirstOutput(tile) * stride - left; }
  int64_t RowOfImage(int64_t row, int64_t phase) const { return row * stride + phase - top; }
};

// Rows of several small images, or some rows of a large one, which are computed together.
struct Block {
  int64_t image, images, row, rows;
};

// How rows of maps, or of images of one phase, are divided into blocks: from `first_row` on, so many of each image.
class Blocks {
 public:
  Blocks(const Geometry& geometry, int64_t first_row, int64_t rows)
      : all_images_(geometry.images),
        first_row_(first_row),
        all_rows_(rows),
        images_(std::clamp<int64_t>(kTiles / geometry.tiles / rows, 1, std::max<int64_t>(all_images_, 1))),
        rows_(std::clamp<int64_t>(kTiles / geometry.tiles, 1, rows)) {}

  int64_t MostImages() const { return images_; }
  int64_t MostRows() const { return rows_; }
  int64_t Count() const { return (all_images_ + images_ - 1) / images_ * Bands(); }
  Block operator[](int64_t number) const {
    const int64_t image = number / Bands() * images_, row = number % Bands() * rows_;
    return {image, std::min(images_, all_images_ - image), first_row_ + row, std::min(rows_, all_rows_ - row)};
  }

 private:
  static constexpr int64_t kTiles = 64;  // about so many: a processor's cache holds what is made of them

  int64_t Bands() const { return (all_rows_ + rows_ - 1) / rows_; }

  const int64_t all_images_, first_row_, all_rows_, images_, rows_;
};

// The products of a block: for each product, image and phase a matrix [rows · tiles, channels], in which products for
// the last output have a row for whole tiles alone.
template <int kStride>
class Products {
  using Winograd = Algorithm<kStride>;

 public:
  Products(Workspace workspace, const Geometry& geometry, const Blocks& blocks, int64_t phases, int64_t channels)
      : geometry_(geometry),
        channels_(channels),
        phases_(phases),
        matrix_((blocks.MostRows() + kSide - 1) * geometry.tiles * channels),
        // A group more, because numbers a power of two apart compete for the same places of a cache.
        size_(blocks.MostImages() * phases * matrix_ + kLanes),
        numbers_(MemoryFor(workspace, Winograd::kProducts * size_)) {}

  // How many tiles of a row have a product.
  int64_t Tiles(int product) const {
    return Winograd::kForLastOutput[product] ? geometry_.whole_tiles : geometry_.tiles;
  }
  // A product's matrix from this row of maps on; image and row count from the block's first.
  float* Rows(int product, int64_t image, int64_t phase, int64_t row) const {
    return numbers_ + product * size_ + (image * phases_ + phase) * matrix_ + row * Tiles(product) * channels_;
  }
  // Where a tile's products are; `missing` for those that a tile of three outputs does not have.
  void Find(int64_t image, int64_t phase, int64_t row, int64_t tile, float* missing,
            float* (&places)[Winograd::kProducts]) const {
    float* const first = numbers_ + (image * phases_ + phase) * matrix_;
    float* const of_any = first + (row * geometry_.tiles + tile) * channels_;
    float* const of_whole = first + (row * geometry_.whole_tiles + tile) * channels_;
    const bool is_whole = tile < geometry_.whole_tiles;
#pragma GCC unroll 9
    for (int i = 0; i < Winograd::kProducts; i++) {
      if (!Winograd::kForLastOutput[i]) {
        places[i] = of_any + i * size_;
      } else {
        places[i] = is_whole ? of_whole + i * size_ : missing;
      }
    }
  }

 private:
  const Geometry& geometry_;
  const int64_t channels_, phases_, matrix_, size_;
  float* const numbers_;
};

// Between images or maps and the products of a block.
template <int kStride>
class Transforms {
  using Winograd = Algorithm<kStride>;

 public:
  explicit Transforms(const Geometry& geometry)
      : geometry_(geometry),
        zeros_(MemoryFor(Workspace::kZeros, std::max(geometry.channels, geometry.filters))),
        discarded_(MemoryFor(Workspace::kDiscarded, std::max(geometry.channels, geometry.filters))) {
    std::fill_n(zeros_, std::max(geometry.channels, geometry.filters), 0.0f);
  }

  // Bᵀ x, for the rows of a phase that the block's maps see.
  void FromImages(const Block& block, int phase, const float* images, const Products<kStride>& products) const {
    ForTiles(block.images, block.rows + (kSide - 1 - phase) / kStride, [&](int64_t image, int64_t row, int64_t tile) {
      const float* from[Winograd::kInputs];
      float* to[Winograd::kProducts];
      FindInputs(images, block.image + image, geometry_.RowOfImage(block.row + row, phase), tile, zeros_, from);
      products.Find(image, phase, row, tile, discarded_, to);
      Prefetch(from, kStride * geometry_.width, geometry_.channels);
      Transform(geometry_.channels, from, to, 0, [](auto& x, auto& u) { Winograd::FromInputs(x, u); });
    });
  }

  // A y, for the block's rows and so many above them.
  void FromMaps(const Block& block, int64_t above, const float* maps, const Products<kStride>& products) const {
    ForTiles(block.images, block.rows + above, [&](int64_t image, int64_t row, int64_t tile) {
      const float* from[kTileOutputs];
      float* to[Winograd::kProducts];
      FindOutputs(maps, block.image + image, block.row + row - above, tile, zeros_, from);
      products.Find(image, 0, row, tile, discarded_, to);
      Prefetch(from, geometry_.map_width, geometry_.filters);
      Transform(geometry_.filters, from, to, 0, [](auto& y, auto& v) { Winograd::FromOutputs(y, v); });
    });
  }

  // Aᵀ m
  void ToMaps(const Block& block, const Products<kStride>& products, float* maps) const {
    ForTiles(block.images, block.rows, [&](int64_t image, int64_t row, int64_t tile) {
      float *from[Winograd::kProducts], *to[kTileOutputs];
      products.Find(image, 0, row, tile, zeros_, from);
      FindOutputs(maps, block.image + image, block.row + row, tile, discarded_, to);
      Transform(geometry_.filters, from, to, 0, [](auto& m, auto& y) { Winograd::ToOutputs(m, y); });
    });
  }

  // B m, for the block's rows of a phase. Neighbouring tiles see the same inputs: the later one adds to those.
  void ToImages(const Block& block, int phase, const Products<kStride>& products, float* images) const {
    ForTiles(block.images, block.rows, [&](int64_t image, int64_t row, int64_t tile) {
      float *from[Winograd::kProducts], *to[Winograd::kInputs];
      products.Find(image, 0, row, tile, zeros_, from);
      FindInputs(images, block.image + image, geometry_.RowOfImage(block.row + row, phase), tile, discarded_, to);
      const int64_t shared = tile == 0 ? 0 : Winograd::kInputs - geometry_.OutputsOf(tile - 1) * kStride;
      Transform(geometry_.channels, from, to, shared, [](auto& m, auto& x) { Winograd::ToInputs(m, x); });
    });
  }

 private:
  template <typename Work>
  void ForTiles(int64_t images, int64_t rows, Work work) const {
    for (int64_t image = 0; image < images; image++) {
      for (int64_t row = 0; row < rows; row++) {
        for (int64_t tile = 0; tile < geometry_.tiles; tile++) work(image, row, tile);
      }
    }
  }

  // The pixels of an image that a tile sees; `outside` for those beyond its edges.
  template <typename Number>
  void FindInputs(Number* images, int64_t image, int64_t y, int64_t tile, float* outside,
                  Number* (&places)[Winograd::kInputs]) const {
    const int64_t x = geometry_.FirstInput(tile), count = Winograd::kInputs;
    Find(images, image, geometry_.height, geometry_.width, geometry_.channels, y, x, count, outside, places);
  }

  // The pixels of maps in a tile.
  template <typename Number>
  void FindOutputs(Number* maps, int64_t image, int64_t y, int64_t tile, float* outside,
                   Number* (&places)[kTileOutputs]) const {
    const int64_t x = geometry_.FirstOutput(tile);
    Find(maps, image, geometry_.map_height, geometry_.map_width, geometry_.filters, y, x, geometry_.OutputsOf(tile),
         outside, places);
  }

  // The first `count` pixels from (y, x) on.
  template <int kPlaces, typename Number>
  static void Find(Number* images, int64_t image, int64_t height, int64_t width, int64_t channels, int64_t y, int64_t x,
                   int64_t count, float* outside, Number* (&places)[kPlaces]) {
    const bool has_row = y >= 0 && y < height;
    const int64_t first = ((image * height + y) * width + x) * channels;
    if (has_row && x >= 0 && x + kPlaces <= width && count == kPlaces) {
      for (int i = 0; i < kPlaces; i++) places[i] = images + first + i * channels;
      return;
    }
    for (int i = 0; i < kPlaces; i++) {
      const bool is_inside = has_row && x + i >= 0 && x + i < width && i < count;
      places[i] = is_inside ? images + first + i * channels : outside;
    }
  }

  // Asks for the pixels that are so many pixels further on: those of the same tile, a row below.
  template <int kCount>
  void Prefetch(const float* const (&pixels)[kCount], int64_t distance, int64_t channels) const {
    constexpr int64_t kLine = 16;  // numbers in a line of the cache
    for (const float* pixel : pixels) {
      if (pixel == zeros_) continue;
      for (int64_t channel = 0; channel < channels; channel += kLine) {
        __builtin_prefetch(pixel + distance * channels + channel);
      }
    }
  }

  // Multiplies all channels by one of the algorithm's matrices; the first `shared` results are added to what is there.
  template <int kFrom, int kTo, typename Number, typename Function>
  static void Transform(int64_t channels, Number* const (&from)[kFrom], float* const (&to)[kTo], int64_t shared,
                        Function function) {
    for (int64_t channel = 0; channel < channels; channel += kLanes) {
      Lanes given[kFrom], made[kTo];
#pragma GCC unroll 9
      for (int i = 0; i < kFrom; i++) given[i] = Load(from[i] + channel);
      function(given, made);
#pragma GCC unroll 9
      for (int i = 0; i < kTo; i++) {
        float* place = to[i] + channel;
        Store(place, i < shared ? Load(place) + made[i] : made[i]);
      }
    }
  }

  const Geometry& geometry_;
  float *const zeros_, *const discarded_;  // read, and written, in place of pixels and products that there are not
};

}  // namespace vae_runner
