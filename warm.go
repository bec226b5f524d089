package larder
