import sys

from licd_vendor.main import main

sys.exit(main())
