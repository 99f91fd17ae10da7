package adapter_test

import (
	"context"
	"testing"
	"time"

	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

// suiteCase is one function of upstream's k8s.io/apiserver/pkg/storage/testing.
type suiteCase struct {
	name string
	opts []option
	run  func(context.Context, *testing.T, *harness)
}

// What does not apply, all of it about etcd and none of it about what a client can see:
//   - The recorders of requests to etcd (RunTestList's last argument) and the counts of reads through the transformer
//     (CallsValidation of RunTestListContinuation, …WithFilter and RunTestListPaginationRareObject): a list here makes
//     no request for objects and decrypts each state once, so these get nil or a function that asserts nothing, as
//     upstream's own cacher does. The lists themselves are checked in full.
//   - In RunTestKeySchema the object whose key is the bare prefix, see named.
//   - The benchmarks (RunBenchmark…) are called from bench_test.go.
func suiteCases() []suiteCase {
	plain := func(name string, run func(context.Context, *testing.T, storageInterface)) suiteCase {
		return suiteCase{name: name, run: func(ctx context.Context, t *testing.T, h *harness) { run(ctx, t, h) }}
	}
	return []suiteCase{
		{name: "Create", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestCreate(ctx, t, h, h.validate)
		}},
		{name: "CreateWithTTL", opts: []option{withTTL(time.Second)}, run: func(ctx context.Context, t *testing.T, h *harness) {
			h.sweep(t)
			storagetesting.RunTestCreateWithTTL(ctx, t, h)
		}},
		plain("CreateWithKeyExist", storagetesting.RunTestCreateWithKeyExist),
		// It updates an object with a ttl and expects it to be there afterwards.
		{name: "Get", opts: []option{withTTL(time.Second)}, run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestGet(ctx, t, h)
		}},
		plain("UnconditionalDelete", storagetesting.RunTestUnconditionalDelete),
		plain("ConditionalDelete", storagetesting.RunTestConditionalDelete),
		plain("DeleteWithSuggestion", storagetesting.RunTestDeleteWithSuggestion),
		plain("DeleteWithSuggestionAndConflict", storagetesting.RunTestDeleteWithSuggestionAndConflict),
		plain("DeleteWithConflict", storagetesting.RunTestDeleteWithConflict),
		plain("DeleteWithSuggestionOfDeletedObject", storagetesting.RunTestDeleteWithSuggestionOfDeletedObject),
		plain("ValidateDeletionWithSuggestion", storagetesting.RunTestValidateDeletionWithSuggestion),
		plain("ValidateDeletionWithOnlySuggestionValid", storagetesting.RunTestValidateDeletionWithOnlySuggestionValid),
		plain("PreconditionalDeleteWithSuggestion", storagetesting.RunTestPreconditionalDeleteWithSuggestion),
		plain("PreconditionalDeleteWithOnlySuggestionPass", storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass),
		{name: "List", run: func(ctx context.Context, t *testing.T, h *harness) {
			// etcd's compactor writes down how far it came, which is a revision of its own that the test counts with.
			compact := func(ctx context.Context, t *testing.T, resourceVersion string) {
				h.compact(ctx, t, resourceVersion)
				h.increase(ctx, t)
			}
			storagetesting.RunTestList(ctx, t, h, compact, false, nil)
		}},
		{name: "ConsistentList", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestConsistentList(ctx, t, h, h.increase, false, true, false)
		}},
		{name: "GetListNonRecursive", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestGetListNonRecursive(ctx, t, h.increase, h)
		}},
		plain("GetListRecursivePrefix", storagetesting.RunTestGetListRecursivePrefix),
		{name: "ListContinuation", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestListContinuation(ctx, t, h, nil)
		}},
		{name: "ListPaginationRareObject", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestListPaginationRareObject(ctx, t, h, nil)
		}},
		{name: "ListContinuationWithFilter", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestListContinuationWithFilter(ctx, t, h, nil)
		}},
		{name: "ListInconsistentContinuation", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestListInconsistentContinuation(ctx, t, h, h.compact)
		}},
		{name: "ListResourceVersionMatch", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestListResourceVersionMatch(ctx, t, h)
		}},
		plain("ListPaging", storagetesting.RunTestListPaging),
		plain("NamespaceScopedList", storagetesting.RunTestNamespaceScopedList),
		{name: "GuaranteedUpdate", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestGuaranteedUpdate(ctx, t, h, h.validate)
		}},
		{name: "GuaranteedUpdateWithTTL", opts: []option{withTTL(time.Second)}, run: func(ctx context.Context, t *testing.T, h *harness) {
			h.sweep(t)
			storagetesting.RunTestGuaranteedUpdateWithTTL(ctx, t, h)
		}},
		{name: "GuaranteedUpdateChecksStoredData", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestGuaranteedUpdateChecksStoredData(ctx, t, h)
		}},
		plain("GuaranteedUpdateWithConflict", storagetesting.RunTestGuaranteedUpdateWithConflict),
		plain("GuaranteedUpdateWithSuggestionAndConflict", storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict),
		{name: "TransformationFailure", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestTransformationFailure(ctx, t, h)
		}},
		{name: "Stats", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestStats(ctx, t, h, storedForm{h.config.Codec}, h.config.Transformer, false)
		}},
		{name: "StatsWithSizes", run: func(ctx context.Context, t *testing.T, h *harness) {
			if err := h.EnableResourceSizeEstimation(func(context.Context) ([]string, error) { return nil, nil }); err != nil {
				t.Fatal(err)
			}
			storagetesting.RunTestStats(ctx, t, h, storedForm{h.config.Codec}, h.config.Transformer, true)
		}},
		{name: "CompactRevision", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestCompactRevision(ctx, t, h, h.increase, h.compact)
		}},
		{name: "KeySchema", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestKeySchema(ctx, t, named{h})
		}},

		plain("Watch", storagetesting.RunTestWatch),
		{name: "WatchFromZero", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestWatchFromZero(ctx, t, h, h.compact)
		}},
		plain("DeleteTriggerWatch", storagetesting.RunTestDeleteTriggerWatch),
		plain("WatchFromNonZero", storagetesting.RunTestWatchFromNonZero),
		plain("DelayedWatchDelivery", storagetesting.RunTestDelayedWatchDelivery),
		{name: "WatchError", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestWatchError(ctx, t, h)
		}},
		{name: "WatchWithUnsafeDelete", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestWatchWithUnsafeDelete(ctx, t, h)
		}},
		plain("WatchContextCancel", storagetesting.RunTestWatchContextCancel),
		plain("WatcherTimeout", storagetesting.RunTestWatcherTimeout),
		plain("WatchDeleteEventObjectHaveLatestRV", storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV),
		plain("WatchInitializationSignal", storagetesting.RunTestWatchInitializationSignal),
		{name: "ProgressNotify", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunOptionalTestProgressNotify(ctx, t, h, h.increase)
		}},
		plain("ClusterScopedWatch", storagetesting.RunTestClusterScopedWatch),
		plain("NamespaceScopedWatch", storagetesting.RunTestNamespaceScopedWatch),
		{name: "WatchDispatchBookmarkEvents", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunTestWatchDispatchBookmarkEvents(ctx, t, h, true)
		}},
		plain("WatchBookmarksWithCorrectResourceVersion", storagetesting.RunTestOptionalWatchBookmarksWithCorrectResourceVersion),
		plain("SendInitialEventsBackwardCompatibility", storagetesting.RunSendInitialEventsBackwardCompatibility),
		plain("WatchSemantics", storagetesting.RunWatchSemantics),
		plain("WatchSemanticInitialEventsExtended", storagetesting.RunWatchSemanticInitialEventsExtended),
		plain("WatchListMatchSingle", storagetesting.RunWatchListMatchSingle),
		{name: "WatchErrorIsBlockingFurtherEvents", run: func(ctx context.Context, t *testing.T, h *harness) {
			storagetesting.RunWatchErrorIsBlockingFurtherEvents(ctx, t, h)
		}},
	}
}

// runSuite runs upstream's suite on a driver. newDatabase makes a fresh database for each case.
func runSuite(t *testing.T, replicas int, newDatabase func(testing.TB) opener) {
	for _, tc := range suiteCases() {
		// Not parallel: some cases set upstream's feature gates, which are global.
		t.Run(tc.name, func(t *testing.T) {
			tc.run(t.Context(), t, newHarness(t, newDatabase(t), replicas, tc.opts...))
		})
	}
}
