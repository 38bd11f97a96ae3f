// Spans of the host under a weak memory model (weak_spans.hpp).
//
// What is checked: no object has two owners and all uses of its bytes are ordered; whoever owns a
// span comes after the owner before; no free is lost: when all objects are freed and all caches
// given up, every span has gone back to the heap; a second free of an object is told; free slots
// that were given back are found; and no thread is in a slow path while another forks.
#include <algorithm>
#include <utility>

#include "relacy/weak_spans.hpp"

namespace warpheap {
namespace weak {
namespace {

TEST(Spans, OthersFreeWhileTheOwnerAllocatesAndCollects) {
  for (const unsigned before : {6u, 8u}) {
    weak_spans w;
    void* p[8] = {};
    w.prepare = [&] {
      for (unsigned i = 0; i < before; ++i) p[i] = w.take(0);
    };
    const auto owner = [&] {
      void* mine[4];
      for (void*& q : mine) q = w.take(0);
      w.give(0, p[4]);
      for (void* q : mine) w.give(0, q);
    };
    explore(20'000, {w,
                     {owner, [&] { w.give(1, p[0]), w.give(1, p[1]); },
                      [&] { w.give(2, p[2]), w.give(2, p[3]); }},
                     [&] {
                       w.check_noticed();
                       w.finish({p + 5, p + std::max(before, 5u)});
                     }});
  }
}

TEST(Spans, TheOwnerDiesAndOthersTakeItsSpansOver) {
  for (const unsigned before : {7u, 8u}) {
    weak_spans w;
    void* p[8] = {};
    w.prepare = [&] {
      for (unsigned i = 0; i < before; ++i) p[i] = w.take(0);
    };
    const auto other = [&](unsigned thread, unsigned first) {
      return [&w, &p, thread, first] {
        w.give(thread, p[first]);
        void* q = w.take(thread);
        w.give(thread, p[first + 1]);
        w.give(thread, q);
      };
    };
    const auto owner = [&] {
      w.give(0, p[0]);
      w.cache(0).flush();
    };
    explore(20'000, {w, {owner, other(1, 1), other(2, 3)}, [&] {
                       w.check_noticed();
                       w.finish({p + 5, p + std::max(before, 5u)});
                     }});
  }
}

TEST(Spans, TheLastObjectGoesWhileTheOwnerGivesTheSpanBack) {
  for (const bool with_cache : {true, false}) {
    weak_spans w;
    void* p[2] = {};
    w.prepare = [&] {
      for (void*& q : p) q = w.take(0);
    };
    const auto last = [&](unsigned thread) {
      return [&w, &p, thread, with_cache] {
        if (with_cache)
          w.give(thread, p[thread - 1]);
        else
          w.give_without_cache(p[thread - 1]);
      };
    };
    explore(20'000, {w, {[&] { w.cache(0).flush(); }, last(1), last(2)}, [&] {
                       w.check_noticed();
                       if (w.central()[span_class].set_sizes().partial != 0)
                         fail("a span without objects is among those that have some");
                       w.check_all_free();
                     }});
  }
}

TEST(Spans, AFullSpanIsLetGoWhileOthersFreeInIt) {
  for (const bool with_cache : {true, false}) {
    weak_spans w;
    void *p[slots] = {}, *q[2] = {};
    w.prepare = [&] {
      for (void*& object : p) object = w.take(0);
    };
    const auto other = [&](unsigned thread) {
      return [&w, &p, thread, with_cache] {
        if (with_cache)
          w.give(thread, p[thread]);
        else
          w.give_without_cache(p[thread]);
      };
    };
    const auto owner = [&] {
      w.own(w.span_of(p[0]));
      // Of slots that came back, or else of another span.
      for (void*& object : q) object = w.take(0);
    };
    explore(20'000, {w, {owner, other(1), other(2)}, [&] {
                       w.check_noticed();
                       for (void* object : q) w.give(0, object);
                       w.give(0, p[0]);
                       w.finish({p + 3, p + slots});
                     }});
  }
}

TEST(Spans, AFullSpanIsLeftToItsLastOwnerWhoFreesInItToo) {
  // One other frees in it, which is less than a quarter; before a malloc would fail, all is taken.
  for (const bool is_short : {false, true}) {
    weak_spans w;
    void *p[slots] = {}, *next = nullptr, *q = nullptr;
    w.prepare = [&] {
      for (void*& object : p) object = w.take(0);
      next = w.take(0);
    };
    const auto owner = [&] {
      w.give(0, p[0]);
      q = w.take(0);
    };
    const auto third = [&] {
      if (is_short)
        w.central()[span_class].take_marked();
      else
        w.give(2, p[2]);
    };
    explore(20'000, {w, {owner, [&] { w.give(1, p[1]); }, third}, [&] {
                       w.check_noticed();
                       w.give(0, next);
                       w.give(0, q);
                       w.finish({p + (is_short ? 2 : 3), p + slots});
                     }});
  }
}

TEST(Spans, WhoFreesTheLastOfAQuarterTakesTheSpan) {
  // Of two, in different words. Too many objects to look at their bytes.
  weak_spans w(tiny_span_class);  // with spans of one page
  w.model_second_words();
  void* p[other_slots + 1] = {};
  const auto free = [&](unsigned thread, unsigned slot) {
    if (!w.free(thread, &w.cache(thread), p[slot])) fail("a free was taken for a second one");
  };
  w.prepare = [&] {
    for (void*& object : p) object = w.cache(0).alloc(other_class);
    for (unsigned i = other_slots - other_slots / 4 + 2; i < other_slots; ++i) free(1, i);
    if (w.span_of(p[0])->place() != span_place::full) fail("less than a quarter is taken");
  };
  explore(1'000, {w, {[&] { free(1, 0); }, [&] { free(2, 64); }}, [&] {
                    w.check_noticed();
                    if (w.span_of(p[0])->place() == span_place::full) fail("a quarter is left");
                  }});
}

TEST(Spans, WhatIsFreeInAFullSpanIsFoundWhenThereIsNothingElse) {
  // In one from before, and in one in which another thread frees meanwhile.
  for (const unsigned before : {0u, 1u}) {
    weak_spans w;
    void *p[slots] = {}, *others[(mheap::most_spans - 1) * slots];
    unsigned found = 0;
    bool given = false;
    w.prepare = [&] {
      for (void*& object : p) object = w.take(0);
      for (void*& object : others) object = w.take(0);
      if (w.take(0) != nullptr) fail("there are more spans");
      if (before != 0) w.give(1, others[0]);
      found = 0;
      given = false;
    };
    const auto other = [&] {
      w.give(1, p[0]);
      given = true;
    };
    // As host_heap::or_reclaim does it.
    const auto find = [&] {
      w.central()[span_class].take_marked();
      while (w.take(2) != nullptr) ++found;
    };
    const auto third = [&] {
      find();
      const unsigned must_find = before + given;
      find();
      if (found < must_find) fail("a free slot is not found");
    };
    explore(20'000, {w, {other, third}, [&] {
                       w.check_noticed();
                       find();
                       if (found != before + 1) fail("a free slot is lost");
                     }});
  }
}

TEST(Spans, ACacheAtTheAddressOfOneThatEndedIsNotTakenForIt) {
  // Thread 0 last used cache 0, of another heap. That ends; another thread's new cache is where it
  // was, and takes over the span in which thread 0 frees.
  weak_spans w;
  void* p[slots] = {};
  w.prepare = [&] {
    for (void*& object : p) object = w.take(2);
    w.cache(2).flush();
    w.last(0).set(&w.cache(0));
  };
  const auto other = [&] {
    w.last(0).forget(&w.cache(0));
    w.last(1).set(&w.cache(0));
    w.give_by(1, &w.cache(0), p[1]);
    w.give_by(1, &w.cache(0), p[2]);
  };
  explore(20'000, {w, {[&] { w.give_by(0, &w.cache(1), p[0]); }, other}, [&] {
                     w.check_noticed();
                     w.last(0).set(&w.cache(0));
                     w.finish({p + 3, p + slots});
                   }});
}

TEST(Spans, WhatIsMadeAfterTheFirstMarkIsNoted) {
  // Slots that become ready, some that do so again, those of a span that is taken up, and those
  // that were ready before.
  for (const unsigned before : {4u, 8u, 7u, 1u}) {
    weak_spans w;
    void *p[slots] = {}, *q[3] = {};
    w.prepare = [&] {
      for (unsigned i = 0; i < before; ++i) p[i] = w.take(0);
    };
    const auto owner = [&] {
      if (before == slots) w.give(0, p[0]);
      for (void*& object : q) object = w.take_born(0);
    };
    const auto at_end = [&] {
      w.check_births();
      if (!w.is_marked(p[before - 1])) fail("a mark is gone");
      for (void* object : q) w.give(0, object);
      w.finish({p + (before == slots), p + before});
    };
    const auto marker = [&] {
      w.begin_marks();
      w.mark(p[before - 1]);
    };
    for (const unsigned pause_within : {16u, 64u, 0u})
      explore(4'000, {w, {marker, owner}, at_end, {}, pause_within});
  }
}

TEST(Spans, TwoFreesAtOnceOfOneObjectAreToldOnce) {
  for (const unsigned second : {0u, 2u}) {
    weak_spans w;
    void *twice = nullptr, *other = nullptr;
    w.prepare = [&] {
      twice = w.take(0);
      other = w.take(0);
      w.not_in_use(twice);
    };
    explore(20'000, {w,
                     {[&] {
                        if (second == 0) w.give_again(0, twice);
                        w.cache(0).collect(w.span_of(other));
                        w.span_of(other)->advance();
                      },
                      [&] { w.give_again(1, twice); },
                      [&] {
                        if (second == 2) w.give_again(2, twice);
                      }},
                     [&] {
                       w.finish({&other, 1});
                       if (w.all_told() != 1) fail("of two frees, one has to be told");
                     }});
  }
}

TEST(Spans, AFreeThatComesLaterIsToldWhileFewSlotsBecomeReady) {
  // The same in a span without ready slots, whose owner takes the slot before and readies this one.
  for (const bool by_owner : {true, false}) {
    weak_spans w;
    void* all[slots];
    w.prepare = [&] {
      for (void*& p : all) p = w.take(0);
      w.give(0, all[0]);
      w.not_in_use(all[1]);
    };
    const auto first = [&](unsigned thread) {
      w.give_again(thread, all[1]);
      w.pass(all[1]);
    };
    explore(20'000, {w,
                     {[&] {
                        if (by_owner) first(0);
                        w.cache(0).collect(w.span_of(all[2]));
                        all[0] = w.take(0);
                      },
                      [&] {
                        if (!by_owner) first(1);
                      },
                      [&] { w.give_again_what_was_passed(2); }},
                     [&] {
                       w.give(0, all[0]);
                       w.finish(std::span(all).subspan(2));
                     }});
  }
}

TEST(Spans, AFreeThatComesLaterIsToldAtOnce) {
  // The object is freed, by the owner or another; a third thread hears of it, and frees it too. The
  // owner moves free bits from set to set meanwhile.
  for (const bool by_owner : {true, false}) {
    weak_spans w;
    void *twice = nullptr, *other = nullptr;
    w.prepare = [&] {
      twice = w.take(0);
      other = w.take(0);
      w.not_in_use(twice);
    };
    const auto first = [&](unsigned thread) {
      w.give_again(thread, twice);
      w.pass(twice);
    };
    explore(20'000, {w,
                     {[&] {
                        if (by_owner) first(0);
                        for (unsigned i = 0; i < 3; ++i) {
                          w.cache(0).collect(w.span_of(other));
                          w.span_of(other)->advance();
                        }
                      },
                      [&] {
                        if (!by_owner) first(1);
                      },
                      [&] { w.give_again_what_was_passed(2); }},
                     [&] {
                       w.finish({&other, 1});
                     }});
  }
}

TEST(Spans, TheLastTinyObjectsOfASpanGoAtOnce) {
  // Whose free was the last gives the span back; its record is then one of another class.
  for (const bool by_owner : {true, false}) {
    weak_spans w(tiny_span_class);
    void* p[2] = {};
    void* q = nullptr;
    w.prepare = [&] {
      for (void*& object : p) object = w.take_tiny(0);
      if (!by_owner) w.cache(0).flush();
      q = nullptr;
    };
    const auto first = [&] {
      w.give_tiny(0, p[0]);
      if (by_owner) w.cache(0).flush();
      w.central()[tiny_span_class].release_empty();
      q = w.take_other(0);
    };
    const auto at_end = [&] {
      w.check_noticed();
      w.cache(0).collect(w.span_of(q));
      w.give_other(0, q);
      w.check_all_free();
    };
    const auto second = [&] { w.give_tiny(1, p[1]); };
    for (const unsigned pause_within : {0u, 16u})
      explore(2'000, {w, {first, second}, at_end, {}, pause_within});
  }
}

TEST(Spans, TheLastTinyObjectsGoWhileTheOwnerGivesTheSpanBack) {
  weak_spans w(tiny_span_class);
  void* p[2] = {};
  w.prepare = [&] {
    for (void*& object : p) object = w.take_tiny(0);
  };
  const auto last = [&](unsigned thread) {
    return [&w, &p, thread] { w.give_tiny(thread, p[thread - 1]); };
  };
  explore(20'000, {w, {[&] { w.cache(0).flush(); }, last(1), last(2)}, [&] {
                     w.check_noticed();
                     w.check_all_free();
                   }});
}

TEST(Spans, OthersFreeTinyObjectsOfABlockWhileTheOwnerCollects) {
  for (const bool owner_frees : {true, false}) {
    weak_spans w(tiny_span_class);
    void* p[3] = {};
    w.prepare = [&] {
      for (void*& object : p) object = w.take_tiny(0);
    };
    const auto owner = [&] {
      w.cache(0).collect(w.span_of(p[0]));
      if (owner_frees) w.give_tiny(0, p[2]);
      w.cache(0).collect(w.span_of(p[0]));
    };
    const auto at_end = [&] {
      w.check_noticed();
      if (!owner_frees) w.give_tiny(0, p[2]);
      w.check_all_free();
    };
    const auto other = [&](unsigned thread) {
      return [&w, &p, thread] { w.give_tiny(thread, p[thread - 1]); };
    };
    for (const unsigned pause_within : {0u, 16u})
      explore(10'000, {w, {owner, other(1), other(2)}, at_end, {}, pause_within});
  }
}

TEST(Spans, WhatWasGivenBackIsFoundWhenThereIsNothingElse) {
  // Of all spans one has free slots, and its owner gives it back.
  for (const bool empty : {false, true}) {
    weak_spans w;
    void *two[2] = {}, *found = nullptr, *others[(mheap::most_spans - 1) * slots];
    bool given = false;
    w.prepare = [&] {
      for (void*& p : others) p = w.take(2);
      two[0] = w.take(0);
      w.cache(0).flush();
      two[1] = w.take(0);  // of the same, which was told
      given = false;
    };
    const auto owner = [&] {
      for (void* p : two)
        if (empty) w.give(0, p);
      w.cache(0).flush();
      given = true;
    };
    const auto other = [&] {
      found = w.take(1);
      if (found != nullptr) return;
      // As host_heap::or_reclaim does it.
      const bool must_find = given;
      w.central()[span_class].release_empty();
      found = w.take(1);
      if (must_find && found == nullptr) fail("free slots are not found");
    };
    const auto at_end = [&] {
      if (found == nullptr && w.take(0) == nullptr) fail("free slots are lost");
    };
    for (const unsigned pause_within : {0u, 16u})
      explore(2'000, {w, {owner, other}, at_end, {}, pause_within});
  }
}

TEST(Spans, NoThreadIsInASlowPathWhileAnotherForks) {
  weak_spans w;
  w.model_calls();
  // As they are, in the order of the schedule.
  unsigned in_slow_paths = 0;
  bool forks = false;
  w.prepare = [&] { in_slow_paths = 0, forks = false; };
  const auto change = [&](unsigned thread) {
    if (forks) fail("a slow path begins while a thread forks");
    ++in_slow_paths;
    yield();
    w.change_lists(thread);
    yield();
    --in_slow_paths;
  };
  const auto slow_path = [&](unsigned thread) {
    const mcache::call guard(w.cache(thread));
    change(thread);
  };
  const auto brief_one = [&](unsigned thread) {
    const mcache::brief_call guard(w.cache(thread));
    if (guard) change(thread);
    return static_cast<bool>(guard);
  };
  const auto other = [&](unsigned thread) {
    return [&, thread] {
      slow_path(thread);
      if (!brief_one(thread)) slow_path(thread);
    };
  };
  const auto forking = [&] {
    for (unsigned round = 0; round < 2; ++round) {
      // As host_heap::before_fork does it, with the locks left out.
      fork_gate::close();
      bool ended = false;
      fork_gate::wait_until([&] { return ended = !w.cache(1).in_call() && !w.cache(2).in_call(); });
      if (!ended) fail("slow paths do not end");
      if (in_slow_paths != 0) fail("a slow path is not seen");
      forks = true;
      w.look_at_lists(1), w.look_at_lists(2);
      // A handler of the program's.
      { const mcache::call guard(w.cache(0)); }
      forks = false;
      fork_gate::open();
    }
  };
  explore(5'000, {w, {forking, other(1), other(2)}, [] {}});
}

}  // namespace
}  // namespace weak
}  // namespace warpheap
