#include "host/malloc/cxx_runtime.hpp"

#include <dlfcn.h>

#include "host/persistentalloc.hpp"

namespace warpheap::cxx_runtime {

namespace {

// Names as the C++ ABI mangles them: std::__throw_bad_alloc() and std::get_new_handler(), which
// libstdc++ and libc++ both have, and operator new.
constexpr const char* throw_name = "_ZSt17__throw_bad_allocv";
constexpr const char* handler_name = "_ZSt15get_new_handlerv";
constexpr const char* new_name = "_ZnwmRKSt9nothrow_t";
constexpr const char* aligned_new_name = "_ZnwmSt11align_val_tRKSt9nothrow_t";

constinit thread_local bool inside = false;

/// The library of the runtime; null when there is none. One that only a plugin loaded is in no
/// scope of the program's, and is found by its name.
void* library() {
  Dl_info info{};
  if (void* const f = dlsym(RTLD_DEFAULT, throw_name); f != nullptr && dladdr(f, &info) != 0) {
    if (void* const found = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD)) return found;
  }
  for (const char* const name : {"libstdc++.so.6", "libc++.so.1"})
    if (void* const found = dlopen(name, RTLD_LAZY | RTLD_NOLOAD)) return found;
  return nullptr;
}

/// A function that the runtime alone defines. Without dlopen where the program itself has the
/// runtime, as that could need memory.
template <class F>
F* function(const char* name) {
  void* f = dlsym(RTLD_DEFAULT, name);
  if (f == nullptr) {
    void* const runtime = library();
    if (runtime != nullptr) f = dlsym(runtime, name);
  }
  return reinterpret_cast<F*>(f);
}

/// A function that this library defines as well: the runtime's own, or null.
template <class F>
F* function_behind(F* ours, const char* name) {
  void* const runtime = library();
  if (runtime == nullptr) return nullptr;
  F* const f = reinterpret_cast<F*>(dlsym(runtime, name));
  return f != ours ? f : nullptr;
}

}  // namespace

std::new_handler new_handler() {
  if (inside) return nullptr;
  auto* const get = function<std::new_handler()>(handler_name);
  return get != nullptr ? get() : nullptr;
}

void throw_bad_alloc() {
  if (inside) throw std::bad_alloc();
  if (auto* const thrower = function<void()>(throw_name)) thrower();
  fatal("operator new: out of memory, and there is no C++ runtime that throws std::bad_alloc");
}

void* new_or_null(std::size_t n) {
  auto* const f =
      function_behind<void*(std::size_t, const std::nothrow_t&)>(&::operator new, new_name);
  return f != nullptr ? f(n, std::nothrow) : nullptr;
}

void* new_or_null(std::size_t n, std::align_val_t align) {
  auto* const f = function_behind<void*(std::size_t, std::align_val_t, const std::nothrow_t&)>(
      &::operator new, aligned_new_name);
  return f != nullptr ? f(n, align, std::nothrow) : nullptr;
}

within_library::within_library() { inside = true; }
within_library::~within_library() { inside = false; }

}  // namespace warpheap::cxx_runtime
