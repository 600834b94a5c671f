package safety

// thisSystem is the system the program was built for.
const thisSystem = Windows
