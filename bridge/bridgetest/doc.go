// Package bridgetest holds the conformance suites of the interfaces of package bridge: TestStore, TestStoreDesk, TestSource and
// TestExecutor. An implementation's own test calls the suite with a function that makes a fresh instance.
package bridgetest
