package telemetry

// family is one metric as a scraper sees it. Nothing is exposed that is not declared here.
type family struct{ name, kind, help string }

// families declares every metric of the engine, with base units and unit suffixes as the Prometheus naming guide wants
// them. Series with a peer label live as long as the peer is in its pool; no label has a value that a client of the
// load balancer chooses.
func families() []family {
	return []family{
		{"weir_build_info", "gauge", "1, with the version, revision, protocol and name of the running engine as labels."},

		{"weir_attempts_total", "counter", "Attempts reported by NGINX, by how they ended."},
		{"weir_attempt_duration_seconds", "histogram", "Duration of attempts that were answered, for streams to the first header byte."},
		{"weir_peer_inflight", "gauge", "Requests in flight on the peer as last reported, over all NGINX."},
		{"weir_peer_reports_total", "counter", "Load reports (ORCA) that came with the peer's answers."},
		{"weir_peer_reported_utilization_ratio", "gauge", "Utilisation that the peer reports, recent reports counting more, 1 = full; NaN while none is used."},
		{"weir_peer_reported_inflight", "gauge", "Requests that the peer held by its last report, whoever sent them; NaN while none is used."},
		{"weir_load_reports_refused_total", "counter", "Load reports (ORCA) of the pool's peers that NGINX could not use, by what was wrong with them. Pools without any have no such series."},
		{"weir_peer_state", "gauge", "1 for the state the peer is in, 0 for the others."},
		{"weir_peer_admit", "gauge", "Probability with which NGINX considers the peer for a request; 0 when it is not usable."},
		{"weir_peer_ejections_total", "counter", "Times the peer was ejected on the evidence of requests."},
		{"weir_peer_transitions_total", "counter", "Changes of the peer's state, by the state entered."},
		{"weir_checks_total", "counter", "Active health checks of the peer, by result."},

		{"weir_server_metric_value", "gauge", "Value of a metric that the peer's server tells of itself, by the name in the configuration; NaN when too old."},
		{"weir_server_metric_collections_total", "counter", "Rounds of asking for a metric of a pool's servers: ok = there was a value for every peer."},

		{"weir_pool_peers", "gauge", "Peers of the pool."},
		{"weir_pool_usable_peers", "gauge", "Peers of the pool that may get traffic."},
		{"weir_pool_backups", "gauge", "Share of the requests that backups may take because too few primaries are usable; 0 while they stand by."},
		{"weir_pool_panic", "gauge", "1 while no peer of the pool is usable by health and all of them are used, else 0."},
		{"weir_pool_classes", "gauge", "Request classes of the pool that have a row of their own in its table."},
		{"weir_pool_needed_peers", "gauge", "Peers without any one of which the others could not carry the pool's traffic; 0 = the pool can lose a peer."},
		{"weir_pool_overload_timeouts_total", "counter", "Time-outs that were held against no peer, because the pool could not do without the one that timed out."},
		{"weir_pool_load_ratio", "gauge", "Load of the pool's peers through all balancers, as configured or as answers show it, over that through this engine's; 1 = no other."},
		{"weir_pool_concurrency_limit", "gauge", "Most requests that the pool is to hold at a time, over all NGINX, by its adaptive limit; 0 while there is none."},
		{"weir_shed_requests_total", "counter", "Requests that NGINX refused: over the pool's limit, by priority, because every peer was full, or above a rate limit."},
		{"weir_table_age_seconds", "gauge", "Time since the decision table of the pool was computed."},
		{"weir_table_publications_total", "counter", "Versions of the pool's table that were published."},
		{"weir_refresh_duration_seconds", "histogram", "Time to compute the decision table of a pool."},

		{"weir_discovery_queries_total", "counter", "DNS queries sent for the source of the pool's peers, further attempts included."},
		{"weir_discovery_looks_total", "counter", "Looks at the source of the pool's peers, by result: rounds of DNS queries, readings of a file."},
		{"weir_discovery_up", "gauge", "1 while the last look at the source was good, else 0."},
		{"weir_discovery_peers", "gauge", "Peers that the source names, those kept from its last answer included."},
		{"weir_discovery_age_seconds", "gauge", "Time since the source last answered, or since it was set up. A file answers when it is read."},

		{"weir_slice_duration_seconds", "histogram", "Duration of first attempts that were answered, placed by the policy or in the control slice."},
		{"weir_slice_failures_total", "counter", "First attempts that failed, placed by the policy or in the control slice."},
		{"weir_control_ratio", "gauge", "Mean duration of what the policy placed over that of the control slice, recent attempts counting more, and the ends of its 95 % interval; NaN while not known."},

		{"weir_group_share", "gauge", "Share of the requests that the split of the pool sends to its group, as it is in effect."},
		{"weir_group_requests_total", "counter", "First attempts in a pool with a split, by side: group and rest by the share, header = sent to the group by a header."},
		{"weir_group_failures_total", "counter", "First attempts in a pool with a split that failed, by side."},
		{"weir_group_duration_seconds", "histogram", "Duration of first attempts that were answered in a pool with a split, by side."},
		{"weir_group_ratio", "gauge", "Mean duration of the group over that of the rest within ten minutes, and the ends of its 95 % interval; NaN while not known."},

		{"weir_shadow_ratio", "gauge", "Mean duration of what was mirrored to the pool over that of the live pool's GETs within ten minutes, and the ends of its 95 % interval; NaN while not known."},

		{"weir_model_up", "gauge", "1 while the tables of the pools with the learned policy are made with a model, 0 while the analytic policy serves instead."},
		{"weir_model_info", "gauge", "1, with the model that serves and what evaluates it as labels; absent while none does."},
		{"weir_model_faults_total", "counter", "Failures of models, by stage: files that could not be loaded, tables that had to be made without the model."},
		{"weir_model_events_total", "counter", "What happened to models: loaded, refused, proposed, dropped, promoted, rolled_back and so on."},
		{"weir_model_inference_duration_seconds", "histogram", "Time to evaluate the model for one table."},

		{"weir_learn_phase", "gauge", "1 for where online learning stands, 0 for the others: idle, offline (a candidate is judged), shadow, watched (a new model serves)."},
		{"weir_learn_candidates_total", "counter", "Candidates trained online. weir_model_events_total has what became of them."},
		{"weir_learn_replay_decisions", "gauge", "Decisions in the replay store of online learning."},
		{"weir_learn_replay_bytes", "gauge", "Bytes of the replay store, about."},
		{"weir_learn_attempts_total", "counter", "Attempts that online learning heard of, by what became of them."},
		{"weir_learn_cpu_seconds_total", "counter", "Time that online learning has worked, its pauses left out."},

		{"weir_observe_batches_total", "counter", "Batches of outcomes received on /observe, good or bad."},
		{"weir_observe_records_total", "counter", "Outcome records accepted."},
		{"weir_observe_bad_batches_total", "counter", "Batches refused in whole or in part, by reason."},
		{"weir_observe_skipped_records_total", "counter", "Records counted and not used, by reason."},
		{"weir_observe_lost_records_total", "counter", "Records that NGINX says it lost to a full buffer."},

		{"weir_watch_clients", "gauge", "Long polls waiting on /watch."},
		{"weir_protocol_mismatches_total", "counter", "Requests refused for another protocol version."},
		{"weir_http_requests_total", "counter", "Requests answered by the engine's own listeners, by route and status."},
		{"weir_config_reloads_total", "counter", "Reloads of the configuration file, by result."},
		{"weir_config_last_reload_success_timestamp_seconds", "gauge", "Unix time at which the running configuration was loaded."},

		{"weir_history_written_rows_total", "counter", "Rows of history (outcomes, rollups, events) that the store took."},
		{"weir_history_written_batches_total", "counter", "Batches of history that the store took."},
		{"weir_history_dropped_rows_total", "counter", "Rows of history that were given up, by where: a full queue, a full spool, or content that cannot be stored."},
		{"weir_history_spilled_rows_total", "counter", "Rows of history that had to wait on the disk because the store did not take them."},
		{"weir_history_sampled_out_outcomes_total", "counter", "Successful outcomes that were rolled up but not kept one by one, to stay below history.sample_above."},
		{"weir_history_outages_total", "counter", "Times the history store went down."},
		{"weir_history_queue_rows", "gauge", "Rows of history in memory, waiting to be written down."},
		{"weir_history_spool_rows", "gauge", "Rows of history written down, waiting for the store."},
		{"weir_history_spool_bytes", "gauge", "Bytes of history waiting for the store."},
		{"weir_history_store_up", "gauge", "1 while the history store takes what it is sent, else 0."},

		{"process_cpu_seconds_total", "counter", "User and system CPU time spent."},
		{"process_max_fds", "gauge", "Maximum number of open file descriptors."},
		{"process_open_fds", "gauge", "Number of open file descriptors."},
		{"process_resident_memory_bytes", "gauge", "Resident memory size."},
		{"process_start_time_seconds", "gauge", "Unix time at which the process started."},
		{"process_virtual_memory_bytes", "gauge", "Virtual memory size."},
		{"go_goroutines", "gauge", "Number of goroutines."},
		{"go_threads", "gauge", "Number of OS threads."},
		{"go_gc_cpu_seconds_total", "counter", "CPU time spent in garbage collection."},
		{"go_memstats_alloc_bytes_total", "counter", "Bytes allocated on the heap, freed ones included."},
		{"go_memstats_heap_alloc_bytes", "gauge", "Bytes of heap objects in use."},
		{"go_memstats_heap_sys_bytes", "gauge", "Bytes of heap obtained from the system."},
	}
}

// durationBuckets are upper bounds in seconds for answers of peers.
func durationBuckets() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
}

// refreshBuckets are upper bounds in seconds for the engine's own work.
func refreshBuckets() []float64 {
	return []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1}
}
