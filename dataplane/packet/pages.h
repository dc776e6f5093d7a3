// Memory for the large arrays of the packet path: zeroed, page-aligned, taken once at start.
//
// Flow tables are read at random, so their memory should be in huge pages: one TLB entry for 2 MiB
// instead of 4 KiB. Where none are free, or none may be taken, the kernel is asked for transparent
// ones. Counters are reserved for the largest configuration and cost memory only where touched.
#ifndef GUIDEWAY_DATAPLANE_PACKET_PAGES_H_
#define GUIDEWAY_DATAPLANE_PACKET_PAGES_H_

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace guideway {

enum class PageSize {
  kNormal,
  kTransparentHuge,  // huge if the kernel makes them so by itself
  kHuge,             // from the kernel's reserved pool; if that has too few, kTransparentHuge
};

// `count` zeroed Ts. T is one that is valid as zero bytes and needs no destructor. Throws
// std::bad_alloc if the kernel gives no memory. Movable.
template <typename T>
class PageArray {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  PageArray(size_t count, PageSize page_size) : count_(count) {
    constexpr int kProtection = PROT_READ | PROT_WRITE;
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (page_size == PageSize::kHuge) {
      bytes_ = (count * sizeof(T) + kHugePage - 1) / kHugePage * kHugePage;
      // Populated at once: a page that is promised but not there would be a SIGBUS later.
      data_ = mmap(nullptr, bytes_, kProtection,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
      is_huge_ = data_ != MAP_FAILED;
    } else {
      bytes_ = count * sizeof(T);
    }
    if (!is_huge_) {
      data_ = mmap(nullptr, bytes_, kProtection, kFlags, -1, 0);
      if (data_ == MAP_FAILED) throw std::bad_alloc();
      if (page_size != PageSize::kNormal) madvise(data_, bytes_, MADV_HUGEPAGE);
    }
  }
  PageArray(PageArray&& other) noexcept
      : data_(std::exchange(other.data_, MAP_FAILED)),
        bytes_(other.bytes_),
        count_(std::exchange(other.count_, 0)),
        is_huge_(other.is_huge_) {}
  PageArray& operator=(PageArray&&) = delete;
  ~PageArray() {
    if (data_ != MAP_FAILED) munmap(data_, bytes_);
  }

  T& operator[](size_t i) { return static_cast<T*>(data_)[i]; }
  const T& operator[](size_t i) const { return static_cast<const T*>(data_)[i]; }
  size_t size() const { return count_; }
  // Whether the memory is in huge pages of the kernel's pool.
  bool is_huge() const { return is_huge_; }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;

  void* data_ = MAP_FAILED;
  size_t bytes_ = 0;
  size_t count_;
  bool is_huge_ = false;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_PAGES_H_
