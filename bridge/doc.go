// Package bridge holds the words of edr-bridge and the way of one alert.
//
// An Alert comes from a Source, a Mapper turns it into Orders, guards judge each order, a Store commits
// alert, orders and audit records in one transaction, and an Executor carries the orders out:
//
//	source → Mapper → guard → Store.Admit → settle the delivery → Executor.Execute → Store.Finish
//
// A Task is one of ten value structs whose JSON is exactly the params object of Kaspersky's
// EDR response API. The package imports the standard library only; it knows no product,
// no database, no broker and no command line.
package bridge
