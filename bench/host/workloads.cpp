#include "bench/host/workloads.hpp"

#include <cstring>
#include <memory>
#include <mutex>

#include "bench/host/basic.hpp"
#include "bench/host/tools.hpp"

namespace warpheap::bench::host {
namespace {

std::atomic<std::uint64_t> damaged{0};
std::atomic<std::uint64_t> all_mallocs{0};
std::atomic<std::uint64_t> all_nulls{0};

std::size_t scaled(double n, const setting& how) {
  return static_cast<std::size_t>(std::max(1.0, n * how.scale));
}

std::vector<measurement> one(const elapsed& took, std::size_t operations) {
  const auto count = static_cast<double>(operations);
  return {{0, took.ns / count, *took.cpu_ns / count}};
}

constexpr std::size_t group_objects = 100;

/// A server: each thread replaces objects of 8 to 1000 bytes at random among a thousand, then ends
/// and leaves them to a new thread.
std::vector<measurement> run_larson(const setting& how) {
  constexpr std::size_t places = 1000, lives = 20;
  const std::size_t steps = scaled(25'000, how);
  const auto life = [&](std::vector<object>& mine, std::uint64_t seed) {
    randoms random(seed);
    for (std::size_t i = 0; i < steps; ++i) {
      object& o = mine[random.between(0, places - 1)];
      o.drop();
      o.make(random.between(8, 1000));
    }
    own_calls.note();
  };
  std::vector<std::vector<object>> of_thread(how.threads, std::vector<object>(places));
  const elapsed took = in_threads(how.threads, [&](unsigned me) {
    for (std::size_t k = 0; k < lives; ++k) {
      std::thread(life, std::ref(of_thread[me]), me * lives + k).join();
    }
    for (object& o : of_thread[me]) o.drop();
  });
  return one(took, steps * lives);
}

/// Producers allocate, consumers free: batches of 64 objects pass through a bounded queue.
std::vector<measurement> run_xmalloc(const setting& how) {
  constexpr std::size_t batch = 64, room = 64;
  struct parcel {
    object objects[batch];
  };
  const std::size_t parcels = scaled(10'000, how);
  const unsigned pairs = std::max(1u, how.threads / 2);
  struct channel {
    std::mutex mutex;
    std::vector<parcel> ring{room};
    std::size_t in = 0, out = 0;
  };
  std::vector<std::unique_ptr<channel>> channels;
  for (unsigned i = 0; i < pairs; ++i) channels.push_back(std::make_unique<channel>());
  const elapsed took = in_threads(2 * pairs, [&](unsigned me) {
    channel& c = *channels[me / 2];
    randoms random(me);
    parcel load;
    bool is_loaded = false;
    for (std::size_t done = 0; done < parcels;) {
      const bool produces = me % 2 == 0;
      if (produces && !is_loaded) {
        for (object& o : load.objects) o.make(random.between(16, 512));
        is_loaded = true;
      }
      {
        const std::scoped_lock lock(c.mutex);
        if (produces ? c.in - c.out == room : c.in == c.out) {
          // The other one's turn.
        } else if (produces) {
          std::swap(c.ring[c.in++ % room], load);
          is_loaded = false;
          ++done;
          continue;
        } else {
          std::swap(c.ring[c.out++ % room], load);
          is_loaded = true;
          ++done;
        }
      }
      if (!produces && is_loaded) {
        for (object& o : load.objects) o.drop();
        is_loaded = false;
      } else {
        std::this_thread::yield();
      }
    }
  });
  return one(took, parcels * batch);
}

/// Threads with lists of their own that exchange objects through a shared table, mostly small ones,
/// some of which stay.
std::vector<measurement> run_mstress(const setting& how) {
  constexpr std::size_t shared_places = 1000, rounds = 10;
  const std::size_t steps = scaled(30'000, how);
  std::vector<std::atomic<object*>> shared(shared_places);
  const auto drop_shared = [](object* o) {
    if (o == nullptr) return;
    object copy = *o;
    copy.drop();
    std::free(o);
  };
  const elapsed took = in_threads(how.threads, [&](unsigned me) {
    randoms random(me + 1);
    std::vector<object> mine, kept;
    mine.reserve(steps);
    for (std::size_t round = 0; round < rounds; ++round) {
      for (std::size_t i = 0; i < steps; ++i) {
        const std::uint64_t what = random.next() % 100;
        if (what < 50 || mine.empty()) {
          std::size_t n = std::size_t{8} << random.between(0, 5);
          if (what == 0) n *= 100;
          object o;
          o.make(n + random.between(0, 7));
          (what == 1 ? kept : mine).push_back(o);
        } else if (what < 90) {
          std::swap(mine[random.between(0, mine.size() - 1)], mine.back());
          mine.back().drop();
          mine.pop_back();
        } else {
          auto* out = static_cast<object*>(std::malloc(sizeof(object)));
          ++own_calls.mallocs;
          if (out == nullptr) {
            ++own_calls.nulls;
            continue;
          }
          *out = mine.back();
          mine.pop_back();
          drop_shared(shared[random.between(0, shared_places - 1)].exchange(out));
        }
      }
      for (object& o : mine) o.drop();
      mine.clear();
    }
    for (object& o : kept) o.drop();
  });
  for (auto& o : shared) drop_shared(o.exchange(nullptr));
  return one(took, steps * rounds);
}

/// Sizes from 16 bytes to 16 KB, small ones far more often; each thread frees its own and, one time
/// in ten, what another has left.
std::vector<measurement> run_rptest(const setting& how) {
  constexpr std::size_t places = 4000, shared_places = 256;
  const std::size_t steps = scaled(250'000, how);
  std::vector<std::atomic<unsigned char*>> shared(shared_places);
  const elapsed took = in_threads(how.threads, [&](unsigned me) {
    randoms random(me + 7);
    std::vector<object> mine(places);
    for (std::size_t i = 0; i < steps; ++i) {
      object& o = mine[random.between(0, places - 1)];
      if (o.p != nullptr && random.next() % 10 == 0) {
        std::free(shared[random.between(0, shared_places - 1)].exchange(o.p));
        o.p = nullptr;
      }
      o.drop();
      const std::size_t falling = std::min(random.between(16, 16000), random.between(16, 16000));
      o.make(std::min(falling, random.between(16, 16000)));
    }
    for (object& o : mine) o.drop();
  });
  for (auto& p : shared) std::free(p.exchange(nullptr));
  return one(took, steps);
}

/// Groups of 100 objects of one size, size_of(group); half of a group is freed at once, forwards,
/// the rest a hundred groups later, backwards.
template <class F>
elapsed in_groups(const setting& how, std::size_t groups, bool to_the_next_thread, F&& size_of) {
  constexpr std::size_t window = 100;
  struct place {
    std::mutex mutex;
    std::vector<object> objects;
  };
  std::vector<std::unique_ptr<place>> handed;
  for (unsigned i = 0; i < how.threads; ++i) handed.push_back(std::make_unique<place>());
  const elapsed took = in_threads(how.threads, [&](unsigned me) {
    std::vector<std::vector<object>> old(window, std::vector<object>(group_objects));
    for (std::size_t g = 0; g < groups; ++g) {
      std::vector<object>& now = old[g % window];
      for (std::size_t i = now.size(); i-- > 0;) now[i].drop();
      for (object& o : now) o.make(size_of(g));
      for (std::size_t i = 0; i < now.size(); i += 2) now[i].drop();
      if (!to_the_next_thread || g % 8 != 0) continue;
      // What this thread has left of a group goes to the next one, which frees it.
      std::vector<object> got;
      {
        place& next = *handed[(me + 1) % how.threads];
        const std::scoped_lock lock(next.mutex);
        if (next.objects.empty()) next.objects.swap(now);
      }
      now.resize(group_objects);
      {
        const std::scoped_lock lock(handed[me]->mutex);
        got.swap(handed[me]->objects);
      }
      for (object& o : got) o.drop();
    }
    for (auto& objects : old) {
      for (object& o : objects) o.drop();
    }
  });
  for (auto& p : handed) {
    for (object& o : p->objects) o.drop();
  }
  return took;
}

/// Sizes in turn from 1 to 1000 bytes.
std::vector<measurement> sh(const setting& how, bool to_the_next_thread) {
  const std::size_t groups = scaled(4'000, how);
  return one(in_groups(how, groups, to_the_next_thread, [](std::size_t g) { return g % 1000 + 1; }),
             groups * group_objects);
}
std::vector<measurement> run_sh6(const setting& how) { return sh(how, false); }
std::vector<measurement> run_sh8(const setting& how) { return sh(how, true); }

/// The same with groups of one size only: each slot that is free soon lies between live objects.
std::vector<measurement> run_groups(const setting& how) {
  const std::size_t groups = scaled(2'000, how);
  std::vector<measurement> all;
  for (const std::size_t bytes : {40, 100, 500, 2000}) {
    all.push_back(one(in_groups(how, groups, false, [&](std::size_t) { return bytes; }),
                      groups * group_objects)
                      .front());
    all.back().bytes = bytes;
  }
  return all;
}

/// Writes to an object of 8 bytes over and over: slow when objects of two threads share a line. The
/// first objects come from one thread and are freed by all (scratch), or from each (thrash).
std::vector<measurement> cache(const setting& how, bool given) {
  const std::size_t rounds = scaled(2'000, how);
  constexpr std::size_t writes = 1000;
  std::vector<object> first(how.threads);
  if (given) {
    for (object& o : first) o.make(8);
  }
  const elapsed took = in_threads(how.threads, [&](unsigned me) {
    object o = first[me];
    for (std::size_t r = 0; r < rounds; ++r) {
      o.drop();
      o.make(8);
      if (o.p == nullptr) continue;
      auto* bytes = static_cast<volatile unsigned char*>(o.p);
      for (std::size_t i = 0; i < writes; ++i) {
        bytes[i % 8] = static_cast<unsigned char>(bytes[i % 8] + 1);
      }
      o.p[0] = o.p[7] = o.mark();
    }
    o.drop();
  });
  return one(took, rounds);
}
std::vector<measurement> run_scratch(const setting& how) { return cache(how, true); }
std::vector<measurement> run_thrash(const setting& how) { return cache(how, false); }

/// Small objects of one size at a time: 25 of them, then 400, then 1600, freed in order.
std::vector<measurement> run_glibc_simple(const setting& how) {
  const std::size_t rounds = scaled(200, how);
  std::size_t operations = 0;
  for (const std::size_t count : {25, 400, 1600}) operations += 4 * count;
  const elapsed took = in_threads(how.threads, [&](unsigned) {
    std::vector<void*> all(1600);
    for (std::size_t r = 0; r < rounds; ++r) {
      for (const std::size_t bytes : {16, 48, 128, 400}) {
        for (const std::size_t count : {25, 400, 1600}) {
          for (std::size_t i = 0; i < count; ++i) {
            all[i] = opaque(std::malloc(bytes));
            own_calls.nulls += all[i] == nullptr;
          }
          own_calls.mallocs += count;
          for (std::size_t i = 0; i < count; ++i) std::free(all[i]);
        }
      }
    }
  });
  return one(took, rounds * operations);
}

/// A table of 16384 objects of 2^k sizes up to 1000 bytes, replaced at random.
std::vector<measurement> run_alloc_test(const setting& how) {
  constexpr std::size_t places = 1 << 14;
  const std::size_t steps = scaled(600'000, how);
  const elapsed took = in_threads(how.threads, [&](unsigned me) {
    randoms random(me + 3);
    std::vector<object> mine(places);
    for (std::size_t i = 0; i < steps; ++i) {
      object& o = mine[random.between(0, places - 1)];
      if (o.p != nullptr) {
        o.drop();
      } else {
        o.make(random.between(1, std::size_t{1} << random.between(1, 10)));
      }
    }
    for (object& o : mine) o.drop();
  });
  return one(took, steps / 2);
}

/// A heap in long use: 100000 objects of half a size to all of it, replaced at random.
std::vector<measurement> run_replace(const setting& how) {
  constexpr std::size_t places = 100'000;
  const std::size_t steps = scaled(1'000'000, how);
  std::vector<measurement> all;
  for (const std::size_t bytes : {40, 100, 500}) {
    const elapsed took = in_threads(how.threads, [&](unsigned me) {
      randoms random(me + 5);
      std::vector<object> mine(places);
      for (object& o : mine) o.make(random.between(bytes / 2, bytes));
      for (std::size_t i = 0; i < steps; ++i) {
        object& o = mine[random.between(0, places - 1)];
        o.drop();
        o.make(random.between(bytes / 2, bytes));
      }
      for (object& o : mine) o.drop();
    });
    all.push_back(one(took, places + steps).front());
    all.back().bytes = bytes;
  }
  return all;
}

}  // namespace

void note_damage() { ++damaged; }
std::uint64_t damaged_objects() { return damaged; }

void note_calls(std::uint64_t mallocs, std::uint64_t nulls) {
  all_mallocs += mallocs;
  all_nulls += nulls;
}
std::uint64_t mallocs_made() { return all_mallocs; }
std::uint64_t null_pointers() { return all_nulls; }

const std::vector<workload>& workloads() {
  static const std::vector<workload> all = {
      {"pairs", "malloc and free of one object", run_pairs},
      {"batches", "up to 1000 mallocs, then as many frees, in order", run_batches},
      {"calloc", "zeroed objects, sixteen at a time", run_calloc},
      {"aligned", "objects at multiples of 64, sixteen at a time", run_aligned},
      {"realloc", "two arrays that grow in turn and are written, in 64 steps each", run_realloc},
      {"larson", "random replacement, by threads that end and leave their objects", run_larson},
      {"xmalloc", "one thread allocates, another frees", run_xmalloc},
      {"mstress", "own lists and a shared table, mostly small", run_mstress},
      {"rptest", "16 bytes to 16 KB, falling, some freed by others", run_rptest},
      {"sh6", "groups of a size, half freed at once, half much later", run_sh6},
      {"sh8", "the same, some freed by the next thread", run_sh8},
      {"groups", "as sh6, with groups of one size only", run_groups},
      {"cache-scratch", "writes to an object whose first one came from another thread",
       run_scratch},
      {"cache-thrash", "writes to an object of 8 bytes", run_thrash},
      {"glibc-simple", "25 to 1600 small objects of a size in turn", run_glibc_simple},
      {"alloc-test", "random replacement in a table of 16384", run_alloc_test},
      {"replace", "random replacement among 100000 objects of about one size", run_replace},
  };
  return all;
}

}  // namespace warpheap::bench::host
