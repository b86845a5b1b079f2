"""What a program asks of the machine it runs on: other processes, the heap, the compiler and its cache."""
